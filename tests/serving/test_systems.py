"""Base and grafts by name from one model in memory: each answers as it does alone, whoever was asked before."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.request import urlopen

import pytest
from starlette.testclient import TestClient

from chain_grafts import base, chained, make_graft  # noqa: F401
from chains import MARKERS
from commands import lingraft, one_sentence  # noqa: F401
from endpoints import CAPS, THAI, ask, asking, content, streamed
from lingraft.core.errors import ModelError, UsageError
from lingraft.core.progress import Reporter
from lingraft.models.graft import read_info, write_info
from lingraft.serving.answerer import Answerer
from lingraft.serving.app import Api
from lingraft.serving.endpoint import ServeOptions, serve_model
from lingraft.serving.queue import RequestQueue
from lingraft.serving.systems import named_grafts, open_systems
from processes import HANGING


@pytest.fixture(scope="module")
def direct(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_graft(base, tmp_path_factory.mktemp("direct"), "direct")


def http(stack: ExitStack, graft: Path, beside: Mapping[str, Path], *, with_base: bool = True) -> TestClient:
    systems = stack.enter_context(open_systems(graft, None, "first", beside, with_base=with_base))
    answers = {one.name: Answerer(one.loaded, one.markers, CAPS, put_on=one.put_on) for one in systems}
    desk = RequestQueue()
    stack.callback(desk.close)
    api = Api(answers.pop("first"), "first", desk, beside=answers)
    return stack.enter_context(TestClient(api.app(), base_url="http://127.0.0.1"))


def test_each_answers_as_it_does_alone_in_any_order(base: Path, chained: Path, direct: Path) -> None:
    def answer(client: TestClient, **fields: Any) -> tuple[str, str, Any]:
        found = ask(client, THAI, **fields)
        return found["model"], found["choices"][0]["message"]["content"], found["lingraft"]["tokens"]

    alone = {}
    for name, graft in (("first", chained), ("direct", direct)):
        with ExitStack() as stack:
            alone[name] = answer(http(stack, graft, {}, with_base=False), model="")[1:]
    with ExitStack() as stack:
        (system,) = stack.enter_context(open_systems(None, str(base), "base", {}, with_base=False))
        desk = RequestQueue()
        stack.callback(desk.close)
        api = Api(Answerer(system.loaded, None, CAPS), "base", desk)
        alone["base"] = answer(stack.enter_context(TestClient(api.app(), base_url="http://127.0.0.1")), model="")[1:]
    assert len({text for text, _ in alone.values()}) == 3
    with ExitStack() as stack:
        client = http(stack, chained, {"direct": direct})
        for name in ("first", "base", "direct", "first"):
            assert answer(client, model=name) == (name, *alone[name])
        chunks = streamed(client, THAI, model="direct")
        assert content(chunks) == alone["direct"][0]
        assert {chunk["model"] for chunk in chunks} == {"direct"}
        assert answer(client, model="") == ("first", *alone["first"])
        cards = client.get("/v1/models").json()["data"]
        assert [card["id"] for card in cards] == ["first", "direct", "base"]
        chain = {"chat": "tcot", "languages": ["en", *MARKERS.languages]}
        assert [card["lingraft"] for card in cards] == [chain, {"chat": "direct"}, {"chat": "direct"}]
        assert client.get("/v1/models/direct").json() == cards[1]
        refused = client.post("/v1/chat/completions", json=asking(THAI, model="other"))
        assert refused.status_code == 404
        assert refused.json()["error"]["message"].endswith("this server has 'first', 'direct', 'base'")
        # The language of an answer is the chain's: each model refuses what it has not.
        fields = {"model": "base", "lingraft": {"language": "th"}}
        assert client.post("/v1/chat/completions", json=asking(THAI, **fields)).status_code == 400


def test_names(base: Path, direct: Path, tmp_path: Path) -> None:
    run = tmp_path / "mine"
    assert named_grafts([f"b={run / 'graft'}", str(run / "graft"), str(tmp_path / "c")]) == {
        "b": run / "graft",
        "mine": run / "graft",
        "c": tmp_path / "c",
    }
    for given in (["a=x", "a=y"], ["=x"], ["a="], [str(run), str(run / "graft")]):
        with pytest.raises(UsageError, match="--beside NAME=FOLDER"):
            named_grafts(given)
    for name, beside in (("base", {"b": direct}), ("a", {"a": direct}), ("a", {"base": direct})):
        with pytest.raises(UsageError, match="names two"), open_systems(direct, None, name, beside, with_base=True):
            pass
    with pytest.raises(UsageError, match="--graft"), open_systems(None, str(base), "", {"b": direct}, with_base=True):
        pass


def test_grafts_of_two_bases_are_refused_before_one_is_loaded(base: Path, direct: Path, tmp_path: Path) -> None:
    other = make_graft(base, tmp_path / "other", "direct")
    write_info(other, read_info(other).model_copy(update={"base_sha256": "0" * 64}))
    with (
        pytest.raises(ModelError, match="different bases"),
        open_systems(direct, "no", "", {"b": other}, with_base=True),
    ):
        pass


def test_beside_needs_a_graft_to_be_beside(lingraft: Any, base: Path, direct: Path) -> None:
    one_sentence(lingraft("serve", "--port", 0, "--model", base, "--beside", direct), 2, "--beside", "--graft")
    one_sentence(lingraft("serve", "--port", 0, "--beside="), 2, "--beside is empty")


class Listening(Reporter):
    """Notes what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: Queue[str] = Queue()

    def say(self, text: str, *, always: bool = False) -> None:
        self.said.put(text)


def test_a_server_is_started_with_a_page_and_two_grafts(direct: Path, chained: Path) -> None:
    reporter, end, failed = Listening(), threading.Event(), list[BaseException]()
    options = ServeOptions(port=0, name="mine", beside={"chain": chained}, page=True)

    def serve() -> None:
        try:
            serve_model(direct, None, options, reporter, end)
        except BaseException as error:
            failed.append(error)
            reporter.said.put(f"failed: {error}")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        first = reporter.said.get(timeout=HANGING)
        assert "(chain, base beside it)" in first
        (address,) = re.findall(r"^The page: (\S+)/$", reporter.said.get(timeout=HANGING))
        with urlopen(f"{address}/") as page, urlopen(f"{address}/page/systems") as systems:
            assert b"/page/page.js" in page.read()
            assert [one["name"] for one in json.load(systems)["systems"]] == ["mine", "chain", "base"]
    finally:
        end.set()
        thread.join(HANGING)
    assert failed == []

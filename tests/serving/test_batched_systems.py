"""Answers of several systems from one model in memory, under way at the same time: each is the one given alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chain_grafts import base, chained, make_graft  # noqa: F401
from endpoints import CAPS, THAI, asking, serving
from lingraft.models.graft import read_info
from lingraft.routing.router import Router, decider_of
from lingraft.serving.answerer import Answerer
from lingraft.serving.batching import Batching
from lingraft.serving.queue import RequestQueue
from lingraft.serving.server import bound
from lingraft.serving.systems import open_systems
from lingraft.translation.wording import VARIANTS
from lingraft.translation.wording import ask as worded
from processes import HANGING

PATH = "/v1/chat/completions"
ASKED = worded(VARIANTS[1], "Guten Tag.", "de", "en")[0].content


@pytest.fixture(scope="module")
def direct(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_graft(base, tmp_path_factory.mktemp("direct") / "graft", "direct")


@contextmanager
def server(graft: Path, beside: Mapping[str, Path], rows: int, *, route: bool = False) -> Iterator[str]:
    """Serve systems, so many answers at once; yield the address."""
    with open_systems(graft, None, "tiny", beside, with_base=bool(beside)) as systems:
        batching = Batching.of(systems, rows, 4096, base_too=route)
        assert batching.at_once == rows
        first, loaded = systems[0], systems[0].loaded
        router = Router(loaded, *decider_of(graft, read_info(graft), "form")) if route else None
        answers = {
            one.name: Answerer(
                one.loaded,
                one.markers,
                CAPS,
                put_on=one.put_on,
                router=router if one is first else None,
                writing=batching.writing(one.name),
            )
            for one in systems
        }
        desk = RequestQueue(at_once=rows, step=batching.step)
        with serving(answers.pop("tiny"), desk, bound("127.0.0.1", 0), beside=answers) as url:
            yield url


def told(url: str, bodies: list[dict[str, Any]], at_once: int) -> list[Any]:
    """Return what is answered to bodies, sent so many at once."""
    with httpx2.Client(timeout=HANGING) as http, ThreadPoolExecutor(at_once) as threads:
        found = list(threads.map(lambda body: http.post(url + PATH, json=body).json(), bodies))
    return [(one["choices"][0]["message"], one["usage"], one["lingraft"].get("route")) for one in found]


def test_grafts_side_by_side_and_their_base_are_written_together(chained: Path, direct: Path) -> None:
    names = ["tiny", "base", "direct"] * 4
    bodies = [asking(f"{THAI} {number}") | {"model": name} for number, name in enumerate(names)]
    with server(chained, {"direct": direct}, 1) as url:
        alone = told(url, bodies, 1)
    with server(chained, {"direct": direct}, 8) as url:
        assert told(url, bodies, len(bodies)) == alone


def test_graft_and_base_behind_a_route_are_written_together(direct: Path) -> None:
    texts = [ASKED, "What is the capital of France?", "Hello"] * 4
    bodies = [asking(text) for text in texts] + [asking("Hello", lingraft={"route": "graft"})]
    with server(direct, {}, 1, route=True) as url:
        alone = told(url, bodies, 1)
    assert [route for _, _, route in alone] == ["graft", "base", "base"] * 4 + ["graft"]
    with server(direct, {}, 8, route=True) as url:
        assert told(url, bodies, len(bodies)) == alone

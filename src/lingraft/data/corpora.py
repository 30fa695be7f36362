"""Corpora by name: `opus:TED2020`, `opus:TED2020/v1`, and ids of mtdata: `mtdata:Statmt-news_commentary-18.1-deu-eng`.

mtdata knows where they lie and what form they have; it lives in an environment of its own. A corpus is fetched once
and kept in Lingraft's cache as gzipped JSON Lines, with a column for each language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lingraft.core.environment import cache_folder
from lingraft.core.errors import DataError, EngineError, UsageError
from lingraft.core.own_environments import MTDATA
from lingraft.core.progress import Reporter
from lingraft.core.worker_process import WorkerProcess
from lingraft.data.files import CORPORA, REMOTE, RawRows, SourcePlace
from lingraft.data.formats import jsonl_rows
from lingraft.language.codes import language_tag, match_language
from lingraft.store.files import replacing
from lingraft.store.holders import is_running

WORKER = Path(__file__).parent / "workers" / "mtdata_worker.py"
"""The program that finds and fetches, in mtdata's own environment."""
LOOK_SECONDS = 1.0
MEGABYTE = 1_000_000
SHOWN = 12
"""Languages that a message names at most."""


def corpus_rows(place: SourcePlace, source_lang: str, target_lang: str) -> RawRows:
    """Yield the rows of a corpus, whose columns are named for its languages; it is fetched if it is not there.

    Args:
        place: `opus:name`, `opus:name/version` or `mtdata:id` is what it shows.
        source_lang: language code; other regions of the language will do.
        target_lang: language code, likewise; the corpus may have both the other way round.

    Raises:
        UsageError: there is no such corpus, or not of these languages; or mtdata's environment is not there.
        DataError: it cannot be fetched.
    """
    kept = kept_corpus(place.shown, source_lang, target_lang)
    if not kept.exists():
        fetch_corpus(place.shown, source_lang, target_lang)
    try:
        yield from jsonl_rows(SourcePlace(place.shown, kept, "jsonl"))
    except DataError as error:
        raise DataError(f"{error}; remove {kept}, and it is fetched again") from error


def kept_corpus(name: str, source_lang: str, target_lang: str) -> Path:
    """Return where a corpus is kept once it was fetched."""
    languages = "-".join(sorted((source_lang, target_lang)))
    return cache_folder() / "corpora" / f"{quote(name, safe='')}.{languages}.jsonl.gz"


def needs_network(path: str, source_lang: str, target_lang: str) -> bool:
    """Say whether a source of pairs is on no disk of the user's."""
    if path.startswith(CORPORA):
        return not kept_corpus(path, source_lang, target_lang).exists()
    return path.startswith(REMOTE)


def not_fetched(path: str, source_lang: str, target_lang: str) -> str:
    """Say of a corpus that is not on the disk yet how it is fetched; "" of any other source."""
    if not path.startswith(CORPORA) or not needs_network(path, source_lang, target_lang):
        return ""
    return f"{path} is not fetched yet: `lingraft check {path} --from {source_lang} --to {target_lang}` fetches it"


def refuse_unfetchable(path: str, source_lang: str, target_lang: str) -> None:
    """Refuse a corpus that is not on the disk where nothing can fetch it; any other source is passed over.

    Raises:
        UsageError: mtdata's environment is not there.
    """
    if path.startswith(CORPORA) and needs_network(path, source_lang, target_lang):
        worker_command(path)


def worker_command(name: str) -> list[str]:
    """Return the command that starts the worker, for a corpus.

    Raises:
        UsageError: mtdata's environment is not there.
    """
    return MTDATA.command(WORKER, name)


def fetch_corpus(
    name: str,
    source_lang: str,
    target_lang: str,
    reporter: Reporter | None = None,
    command: Callable[[str], Sequence[str]] | None = None,
) -> Path:
    """Fetch a corpus and return its file; killed, the download goes on where it was.

    Args:
        name: `opus:name`, `opus:name/version` or `mtdata:id`.
        source_lang: language code.
        target_lang: language code.
        reporter: shows how far it is; default: one that speaks.
        command: starts the worker, for a corpus; default: `worker_command`.

    Raises:
        UsageError: as `corpus_rows`.
        DataError: likewise.
        StoreError: the cache cannot be written, or there is no room.
    """
    wanted, kept, reporter = _wanted(name), kept_corpus(name, source_lang, target_lang), reporter or Reporter()
    started = (command or worker_command)(name)
    with replacing(kept) as new:
        _remove_left_over(kept)
        try:
            with reporter.working(f"asking mtdata for {name}"):
                worker = WorkerProcess(started, {"folder": str(kept.parent)}, label="mtdata", remedy=MTDATA.remedy)
            try:
                with reporter.working(f"asking mtdata for {name}"):
                    found = worker.ask({"find": wanted})
                chosen = _chosen(name, found, source_lang, target_lang)
                reporter.say(f"{name}: fetching {chosen['id']} from {chosen['url']}", always=True)
                columns = [_tag(tag) for tag in chosen["languages"]]
                worker.ask({"fetch": chosen["id"], "to": str(new), "columns": columns})
                _follow(worker, name, reporter)
            finally:
                worker.close()
        except EngineError as error:
            raise DataError(
                f"{name}: cannot be fetched ({error}); see to network and disk and run the same again, which goes on "
                f"where it was, or download it and give its path"
            ) from error
    return kept


def _remove_left_over(kept: Path) -> None:
    """Remove what calls that were killed have left beside a corpus."""
    for path in kept.parent.glob(f".{kept.name}.*.tmp"):
        pid = path.name.split(".")[-2]
        if pid.isdecimal() and not is_running(int(pid)):
            path.unlink(missing_ok=True)


def _wanted(name: str) -> dict[str, Any]:
    """Return what the worker is asked to find."""
    kind, _, rest = name.partition(":")
    if kind == "mtdata" and rest.strip():
        return {"id": rest}
    corpus, _, version = rest.partition("/")
    if not corpus.strip() or "/" in version:
        raise UsageError(
            f"{name!r} names no corpus; write opus:TED2020, opus:TED2020/v1 or an id of mtdata, such as "
            f"mtdata:Statmt-news_commentary-18.1-deu-eng"
        )
    return {"group": "OPUS", "name": corpus, "version": version or None}


def _chosen(name: str, found: Mapping[str, Any], source_lang: str, target_lang: str) -> Mapping[str, Any]:
    """Return the newest data set of the wanted languages.

    Raises:
        UsageError: there is none.
    """
    kind, _, rest = name.partition(":")
    datasets = [one for one in found["datasets"] if len(one["languages"]) == 2]
    if not datasets:
        unknown = f"is not known to mtdata {MTDATA.version}"
        holds = "holds texts of one language, not pairs" if found["datasets"] else unknown
        near = "".join(f"; did you mean {kind}:{other}?" for other in found["near"][:1])
        raise UsageError(f"{name}: {holds}{near}")
    if hub := next((one["hub"] for one in datasets if one["hub"]), ""):
        raise UsageError(f"{name}: lies on the Hugging Face hub; give {hub}")
    version = rest.partition("/")[2] if kind == "opus" else ""
    versions = {one["version"] for one in datasets}
    if version and version.replace("-", "").lower() not in versions:
        known = ", ".join(sorted(versions, key=_age))
        raise UsageError(f"{name}: OPUS has no version {version!r} of it; it has {known}")
    fitting: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in datasets:
        first, second = one["languages"]
        for pair in ((first, second), (second, first)):
            if match_language(pair[:1], source_lang) and match_language(pair[1:], target_lang):
                fitting.setdefault(pair, []).append(one)
    source = match_language({pair[0]: 0 for pair in fitting}, source_lang)
    target = match_language({pair[1]: 0 for pair in fitting if pair[0] == source}, target_lang)
    if source is None or target is None:
        raise UsageError(f"{name}: has no {source_lang}-{target_lang}; {_others(datasets, source_lang, target_lang)}")
    return max(fitting[source, target], key=lambda one: _age(one["version"]))


def _others(datasets: Sequence[Mapping[str, Any]], source_lang: str, target_lang: str) -> str:
    """Say which languages a corpus has, those that go with either of two first."""
    partners: dict[str, None] = {}
    for known in (source_lang, target_lang):
        for one in datasets:
            tags = one["languages"]
            for tag, other in (tags, tags[::-1]):
                if match_language([tag], known):
                    partners.setdefault(f"{known}-{_tag(other)}")
    listed = list(partners or dict.fromkeys("-".join(map(_tag, one["languages"])) for one in datasets))
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return f"it has {', '.join(listed[:SHOWN])}{more}"


def _tag(of_mtdata: str) -> str:
    """Return the language of one of mtdata's tags ("deu", "zho_Hant_TW")."""
    return language_tag(of_mtdata) or of_mtdata


def _age(version: str) -> tuple[list[int], str]:
    """Return what versions are sorted by, the newest last: by their numbers."""
    return [int(number) for number in re.findall("[0-9]+", version)], version


def _follow(worker: WorkerProcess, name: str, reporter: Reporter) -> None:
    """Show how far a corpus is until it is there."""
    with reporter.task(f"{name}, megabytes", 0) as task:
        while True:
            state = worker.ask({"wait": LOOK_SECONDS})
            rows = f"{state['rows']:,} pairs read" if state["rows"] else ""
            task.update(state["bytes"] // MEGABYTE, rows, state["of"] // MEGABYTE or None)
            if state["ended"]:
                break
    reporter.say(f"{name}: {state['rows']:,} pairs", always=True)

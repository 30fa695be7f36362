"""Test sets that sacreBLEU knows by name (`sacrebleu:wmt22`), with all references it uses; it fetches them once.

The only user of `sacrebleu.dataset`.
"""

from __future__ import annotations

from typing import Any

from lingraft.core.errors import DataError, UsageError, suggestion
from lingraft.data.files import RawRows, Row, SourcePlace
from lingraft.language.codes import match_language


def sacrebleu_rows(place: SourcePlace, source_lang: str, target_lang: str) -> RawRows:
    """Return the rows of a test set in one direction: source, references and, where known, the document.

    Args:
        place: `sacrebleu:name` is what it shows.
        source_lang: language code; other regions of the language will do.
        target_lang: language code, likewise.

    Raises:
        UsageError: sacreBLEU knows no such set, or not in this direction.
        DataError: it is not on the disk and cannot be fetched, or is damaged. Raised when rows are asked for.
    """
    from sacrebleu.dataset import DATASETS

    name = place.shown.removeprefix("sacrebleu:")
    if name not in DATASETS:
        raise UsageError(f"{place.shown}: sacreBLEU knows no such test set{suggestion(name, DATASETS)}")
    dataset = DATASETS[name]
    by_target: dict[str, dict[str, str]] = {}  # target -> source -> both
    for pair in dataset.langpairs:
        source, target = pair.split("-", 1)
        by_target.setdefault(target, {})[source] = pair
    target_key = match_language(by_target, target_lang)
    source_key = match_language(by_target[target_key], source_lang) if target_key is not None else None
    if target_key is not None and source_key is not None:
        return _rows(place, dataset, by_target[target_key][source_key])
    known = ", ".join(dataset.langpairs)
    raise UsageError(f"{place.shown}: sacreBLEU has no {source_lang}-{target_lang} in it; it has {known}")


def _rows(place: SourcePlace, dataset: Any, pair: str) -> RawRows:
    try:
        sources = list(dataset.source(pair))
        references = [[line.strip() for line in lines] for lines in dataset.references(pair)]
        documents = _documents(dataset, pair)
    except (Exception, SystemExit) as error:  # of urllib, tarfile, lxml, locks; it exits where a checksum differs
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"{place.shown}: sacreBLEU cannot fetch or read it ({first}); with a network run `sacrebleu -t "
            f"{dataset.name} -l {pair} --echo src`, or copy ~/.sacrebleu/{dataset.name} from another machine"
        ) from error
    if len(sources) != len(references):
        raise DataError(
            f"{place.shown}: sacreBLEU's copy is incomplete ({len(sources)} sources, {len(references)} references); "
            f"remove ~/.sacrebleu/{dataset.name}"
        )
    for number, (source, targets) in enumerate(zip(sources, references, strict=True), start=1):
        values: dict[str, Any] = {"source": source, "references": [target for target in targets if target]}
        if documents:
            values["document"] = documents[number - 1]
        yield Row(number, values)


def _documents(dataset: Any, pair: str) -> list[str]:
    """Return the document of each line, or nothing where the set does not say."""
    fields = dataset.fieldnames(pair)
    if "docid" not in fields:
        return []
    with open(dataset.get_files(pair)[fields.index("docid")], encoding="utf-8") as lines:
        return [line.strip() for line in lines]

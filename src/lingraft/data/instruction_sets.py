"""Rows of translation requests: of one's own files, and of benchmarks as these are published.

Each reader yields the id of a request, its fields and its place. Layouts:

  - CoCoA-MT (Nadejde et al. 2022): `NAME.en-de`, one source a line, beside `NAME.en-de.formal.annotated` and
    `NAME.en-de.informal.annotated`, whose markers of formality stand between [F] and [/F];
  - MT-GenEval (Currey et al. 2022), sentences: `geneval-sentences-feminine-test.en_de.en`, one source a line, beside
    `....en_de.de` and both files of the other gender;
  - IFMTBench (Sun et al. 2026, arXiv 2605.28218): JSON Lines; what its program checks, not what its judge grades.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from lingraft.core.errors import DataError, UsageError
from lingraft.core.hashing import Ids
from lingraft.data.files import RawRows, locate, stem, text_lines
from lingraft.data.formats import json_rows, jsonl_rows
from lingraft.data.records import Rejected
from lingraft.language.codes import language_name

RequestRow = tuple[str, Mapping[str, Any], str]
Format = Literal["requests", "cocoa_mt", "mt_geneval", "ifmtbench"]

_MARKED = re.compile(r"\[F\](.*?)\[/F\]")
_MARK = re.compile(r"\[/?F\]")
_COCOA = re.compile(r"\.en-([a-z]{2,3})$")
_GENEVAL = re.compile(r"^(.*geneval-sentences-)(feminine|masculine)(-\w+\.en_([a-z]{2,3})\.)en$")
_OTHER = {"feminine": "masculine", "masculine": "feminine", "formal": "informal", "informal": "formal"}
_NO_PUNCTUATION = str.maketrans(string.punctuation, " " * len(string.punctuation))
_NAMES = {
    name: code
    for code, names in {
        "en": "english 英语 英文",
        "zh": "chinese 中文 汉语 简体中文",
        "ja": "japanese 日语 日文",
        "ko": "korean 韩语 韩文",
        "de": "german 德语",
        "fr": "french 法语",
        "es": "spanish 西班牙语",
        "pt": "portuguese 葡萄牙语",
        "ru": "russian 俄语",
        "it": "italian 意大利语",
        "ar": "arabic 阿拉伯语",
        "th": "thai 泰语",
        "vi": "vietnamese 越南语",
    }.items()
    for name in names.split()
}
_LAYOUTS = {
    "json": "json",
    "html": "html",
    "html片段": "html",
    "csv": "csv",
    "markdown": "table",
    "markdown表格": "table",
}


def own_rows(path: str, root: Path) -> Iterator[RequestRow]:
    """Yield the rows of a file of one's own.

    Raises:
        UsageError: the file is neither JSON Lines nor JSON.
        DataError: a row cannot be read.
    """
    ids = Ids(stem(path))
    for where, line, values in _objects(path, root):
        yield ids.unique(values.get("id"), line), values, where


def cocoa_rows(path: str, root: Path) -> Iterator[RequestRow]:
    """Yield two requests a line of CoCoA-MT, one a level of formality; lines whose translations are marked alike are
    passed over.

    Obeyed is one with at least one marked phrase of its level and none that only the other level has, as the
    benchmark's own accuracy counts; an answer with neither, which that leaves out, is not.

    Raises:
        UsageError: the file is not called as the benchmark calls its sources.
        DataError: a file is missing, or has another number of lines.
    """
    found = _COCOA.search(path)
    if found is None:
        raise UsageError(f"{path}: sources of CoCoA-MT end in .en-de or another language; name the file of sources")
    levels = ("formal", "informal")
    beside = {level: _lines(f"{path}.{level}.annotated", root) for level in levels}
    for number, source in enumerate(sources := _lines(path, root), 1):
        for level in levels:
            _same_number(path, sources, f"{path}.{level}.annotated", beside[level])
            own, other = (_MARKED.findall(beside[one][number - 1]) for one in (level, _OTHER[level]))
            has = [phrase for phrase in dict.fromkeys(own) if phrase not in other]
            if not has:
                continue
            lacks = [phrase for phrase in dict.fromkeys(other) if phrase not in own]
            ask = f"Translate the following text from English into {language_name(found[1])}. Use the {level} register."
            yield (
                f"{number}-{level}",
                {
                    "source_lang": "en",
                    "target_lang": found[1],
                    "prompt": f"{ask}\n\n{source}",
                    "source": source,
                    "reference": _MARK.sub("", beside[level][number - 1]),
                    "checks": [{"kind": "register", "level": level, "has": has, "lacks": lacks}],
                },
                f"{path}:{number}",
            )


def geneval_rows(path: str, root: Path) -> Iterator[RequestRow]:
    """Yield a request a line of MT-GenEval's sentences in one gender; lines translated alike in both are passed over.

    Obeyed is one without a word that only the translation in the other gender has, as the benchmark counts.

    Raises:
        UsageError: the file is not called as the benchmark calls its sources.
        DataError: a file is missing, or has another number of lines.
    """
    found = _GENEVAL.match(path)
    if found is None:
        raise UsageError(
            f"{path}: sources of MT-GenEval are called geneval-sentences-feminine-test.en_de.en, with either gender "
            f"and any target language; name one of these (files of contexts are not read)"
        )
    before, gender, after, target = found.groups()
    sources = _lines(path, root)
    right, wrong = (f"{before}{one}{after}{target}" for one in (gender, _OTHER[gender]))
    own, other = _lines(right, root), _lines(wrong, root)
    _same_number(path, sources, right, own)
    _same_number(path, sources, wrong, other)
    for number, (source, reference, counterpart) in enumerate(zip(sources, own, other, strict=True), 1):
        lacks = sorted(_word_set(counterpart) - _word_set(reference))
        if lacks:
            ask = f"Translate the following text from English into {language_name(target)}."
            yield (
                f"{number}-{gender}",
                {
                    "source_lang": "en",
                    "target_lang": target,
                    "prompt": f"{ask} Keep the gender of everybody in it.\n\n{source}",
                    "source": source,
                    "reference": reference,
                    "checks": [{"kind": "gender", "of": gender, "lacks": lacks}],
                },
                f"{path}:{number}",
            )


def ifmtbench_rows(path: str, root: Path) -> Iterator[RequestRow]:
    """Yield the requests of IFMTBench that a program can check: glossary, layout, structured data, code and tags.

    Style and background, which need a judge, are left out: a request with nothing else is passed over.

    Raises:
        UsageError: the file is neither JSON Lines nor JSON.
        DataError: a row cannot be read, or names no language.
    """
    ids = Ids(stem(path))
    for where, line, values in _objects(path, root):
        checks = list(_ifmtbench_checks(values, where))
        if checks:
            yield (
                ids.unique(values.get("md5"), line),
                {
                    "source_lang": _code(values.get("origin_language"), "origin_language", where),
                    "target_lang": _code(values.get("target_language"), "target_language", where),
                    "prompt": values.get("input"),
                    "source": values.get("origin_text"),
                    "reference": values.get("output"),
                    "checks": checks,
                },
                where,
            )


def _ifmtbench_checks(values: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    classes = values.get("class")
    named = " ".join(classes if isinstance(classes, list) else [str(classes)])
    meta = _decoded(values.get("meta_data"), "meta_data", where)
    if "术语" in named:
        reference = str(values.get("output"))
        terms = {}
        for source, targets in _decoded(values.get("term_dict"), "term_dict", where).items():
            known = [one for one in (targets if isinstance(targets, list) else [targets]) if one]
            if known:
                terms[source] = [one for one in known if one in reference] or known
        if terms:
            yield {"kind": "terms", "terms": terms}
    if "布局" in named and meta.get("primary_delimiter"):
        yield {"kind": "parts", "by": meta["primary_delimiter"]}
    if "结构化" in named:
        given = str(values.get("data_format") or meta.get("data_format", ""))
        if given.lower() not in _LAYOUTS:
            raise DataError(f"{where}: data_format {given!r} is none of {', '.join(_LAYOUTS)}; mend or drop the row")
        yield {"kind": "layout", "of": _LAYOUTS[given.lower()]}
    if "代码" in named and meta.get("extracted_assets"):
        yield {"kind": "names", "names": meta["extracted_assets"]}


def _decoded(value: Any, name: str, where: str) -> Mapping[str, Any]:
    """Return an object that may be written as JSON in a text; an empty one where there is none."""
    try:
        found = json.loads(value) if isinstance(value, str) and value.strip() else value or {}
    except ValueError as error:
        raise DataError(f"{where}: {name} is no JSON ({error}); mend or drop the row") from error
    if not isinstance(found, dict):
        raise DataError(f"{where}: {name} is no object; mend or drop the row")
    return found


def _code(given: Any, name: str, where: str) -> str:
    text = str(given or "").strip()
    if text.lower() in _NAMES:
        return _NAMES[text.lower()]
    if re.fullmatch(r"[A-Za-z]{2,3}(?:[-_]\w+)?", text):
        return text.replace("_", "-")
    raise DataError(f"{where}: {name} is {text!r}, no language that is known; write its code, such as de")


def _objects(path: str, root: Path) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    place = locate(path, "auto", root)
    formats: Mapping[str, Callable[..., RawRows]] = {"jsonl": jsonl_rows, "json": json_rows}
    if place.format not in formats:
        raise UsageError(f"{path}: such requests are read from jsonl or json; save them in one of these")
    for row in formats[place.format](place):
        where = f"{place.shown}:{row.line}"
        if isinstance(row, Rejected):
            raise DataError(f"{where}: {row.reason} {row.detail}".rstrip() + "; mend or drop the row")
        yield where, row.line, row.record


def _lines(path: str, root: Path) -> list[str]:
    place, found = locate(path, "text", root), []
    for row in text_lines(place):
        if isinstance(row, Rejected):
            raise DataError(f"{place.shown}:{row.line}: {row.reason} {row.detail}".rstrip() + "; mend the line")
        found.append(row.record.strip())
    return found


def _same_number(path: str, sources: list[str], beside: str, others: list[str]) -> None:
    if len(sources) != len(others):
        raise DataError(f"{path} has {len(sources)} lines and {beside} {len(others)}; take both from one release")


def _word_set(text: str) -> set[str]:
    return set(text.lower().translate(_NO_PUNCTUATION).split())


READERS: Mapping[Format, Callable[[str, Path], Iterator[RequestRow]]] = {
    "requests": own_rows,
    "cocoa_mt": cocoa_rows,
    "mt_geneval": geneval_rows,
    "ifmtbench": ifmtbench_rows,
}
"""Readers by format."""

"""Human evaluation: blinded side-by-side items to be rated, and what the ratings say.

Raters see a source and two outputs, "A" and "B", without being told which system wrote which; the key that tells stays
with who exports the sheet. Items and sides are shuffled by seed. Items on which two systems wrote the same are not
shown: they count as ties.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.core.errors import DataError, suggestion
from lingraft.core.printable import csv_text
from lingraft.core.record import Record
from lingraft.data.records import SideBySide
from lingraft.language.codes import language_name
from lingraft.store.files import read_sealed, write_atomic, write_sealed

RATINGS = {"AA": -2, "A": -1, "TIE": 0, "B": 1, "BB": 2}
"""What a rater may write, and its place on the scale: A much better, A better, as good, B better, B much better."""

COLUMNS = ("item", "task", "source", "A", "B", "rating", "comment")
ANSWER = "answer to a question"
_TRANSLATION = "translation"
CRITERIA = {
    _TRANSLATION: "Better is the translation that says what the source says: first nothing wrong, left out or added, "
    "then clear and natural wording. Being long, short or literal does not count by itself.",
    ANSWER: "Better is the answer that does what the question asks for: first correct and complete, then clear, to the "
    "point, and in the language of the question. Being long or short does not count by itself.",
}
"""Kind of task -> by what raters judge it."""
KEY, CAMPAIGN = "key.json", "pearmut.json"


@dataclass(frozen=True)
class SheetItem(Record):
    """One blinded item.

    Attributes:
        left: the system behind A.
        right: the system behind B.
        source_id: the item in the run.
        task: what was asked for, such as "translation from German to English".
    """

    item: str
    source_id: str
    group: str
    source: str
    left: str
    right: str
    a: str
    b: str
    task: str = ANSWER


@dataclass(frozen=True)
class Sheet:
    """What is rated, in the order in which it is shown, and what need not be.

    Attributes:
        id: of this export; every item's name begins with it.
        systems: in the order in which they were named.
        same: (system, system) -> items on which both wrote the same.
        references: of the items, where there is one.
        rows: the items with what all systems wrote, in that order; without those on which all wrote the same.
    """

    id: str
    run: str
    seed: int
    systems: tuple[str, ...]
    items: Sequence[SheetItem]
    same: dict[tuple[str, str], int]
    references: dict[str, str]
    rows: Sequence[SideBySide] = ()


def make_sheet(
    rows: Iterable[SideBySide],
    systems: Sequence[str],
    *,
    run: str = "",
    n: int = 100,
    seed: int = 0,
    groups: Sequence[str] = (),
    directions: Sequence[str] = (),
) -> Sheet:
    """Draw items and blind them.

    Args:
        rows: what all systems wrote, as in `outputs.jsonl`.
        systems: two or more; every pair of them is compared on the same items.
        run: name of the run; with the rest it makes the sheet's id.
        n: items drawn, without replacement; all where there are fewer.
        seed: of the draw, the order and the sides.
        groups: directions or suites to draw from; empty: all `directions`, or everything where there are none.
        directions: the groups that are translations.

    Raises:
        DataError: a system or group is unknown, or nothing is left to rate.
    """
    listed = list(rows)
    known = list(dict.fromkeys(name for row in listed for name in row.outputs))
    for name in systems:
        if name not in known:
            raise DataError(f"the run has no outputs of a system {name!r}{suggestion(name, known)}")
    if len(set(systems)) < 2 or len(set(systems)) < len(systems):
        raise DataError(f"two or more different systems are needed, not {', '.join(systems) or 'none'}")
    wanted = list(groups) or [group for group in dict.fromkeys(row.group for row in listed) if group in directions]
    there = list(dict.fromkeys(row.group for row in listed))
    for group in wanted:
        if group not in there:
            raise DataError(f"the run has no direction or suite {group!r}{suggestion(group, there)}")
    usable = [
        row for row in listed if (not wanted or row.group in wanted) and all(name in row.outputs for name in systems)
    ]
    generator = np.random.default_rng(seed)
    drawn = [usable[i] for i in generator.permutation(len(usable))[:n]]
    pairs = list(itertools.combinations(systems, 2))
    same = {pair: sum(_alike(row, pair) for row in drawn) for pair in pairs}
    blinded = [
        (row, pair if generator.random() < 0.5 else pair[::-1])
        for row, pair in itertools.product(drawn, pairs)
        if not _alike(row, pair)
    ]
    if not blinded:
        raise DataError(
            f"there is nothing to rate: {', '.join(systems)} wrote the same everywhere, or no item has outputs of all "
            f"of them; choose other systems or another group"
        )
    order = generator.permutation(len(blinded))
    what = [run, seed, list(systems), [[row.id, *sides, *(row.outputs[s] for s in sides)] for row, sides in blinded]]
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:6]
    items = []
    for number, position in enumerate(order, start=1):
        row, (left, right) = blinded[int(position)]
        name = f"{digest}-{number:0{len(str(len(order)))}d}"
        texts = (row.outputs[left], row.outputs[right])
        items.append(
            SheetItem(name, row.id, row.group, row.source, left, right, *texts, task_of(row.group, directions))
        )
    references = {row.id: row.reference for row in drawn if row.reference}
    shown = {(row.group, row.id): row for row in (blinded[int(position)][0] for position in order)}
    return Sheet(digest, run, seed, tuple(systems), items, same, references, tuple(shown.values()))


def sheet_csv(sheet: Sheet, reference: bool = False) -> str:
    """Return the sheet for a spreadsheet program: rows to be filled in, without anything that names a system.

    What such a program would take for a formula gets an apostrophe in front; see `csv_text`.
    """
    columns = [*COLUMNS[:3], *(["reference"] if reference else []), *COLUMNS[3:]]
    rows = [columns]
    for item in sheet.items:
        texts = [item.source, *([sheet.references.get(item.source_id, "")] if reference else []), item.a, item.b]
        rows.append([item.item, item.task, *texts, "", ""])
    return "\ufeff" + csv_text(rows, line_end="\r\n")


def criteria(sheet: Sheet) -> list[str]:
    """Return by what the items of a sheet are to be judged, a sentence or two for each kind of task in it."""
    return [words for kind, words in CRITERIA.items() if any(item.task.startswith(kind) for item in sheet.items)]


def instructions(sheet: Sheet) -> str:
    """Return what a rater who fills the table has to know; the form says the same."""
    tasks = ", ".join(dict.fromkeys(item.task for item in sheet.items))
    lines = [
        f"Each row of sheet.csv shows a source or a question, and two texts written for it: {tasks}.",
        *criteria(sheet),
        "Write AA (A is much better), A (A is better), tie, B or BB into the column rating, or leave it empty. The "
        "order is random; who wrote what is not shown.",
    ]
    return "\n\n".join(lines) + "\n"


def task_of(group: str, directions: Sequence[str]) -> str:
    """Return what is asked for in a group of a run: a direction such as "de-en", or a suite.

    Args:
        group: of the run.
        directions: the groups that are translations.
    """
    if group not in directions:
        return ANSWER
    codes = group.split("-")
    # A code with a region or a script has a hyphen of its own.
    said = f" from {' to '.join(map(language_name, codes))}" if len(codes) == 2 else f", {group}"
    return _TRANSLATION + said


def write_key(path: Path, sheet: Sheet) -> None:
    """Write which system is behind which side."""
    write_sealed(
        path,
        {
            "schema": "lingraft.sheet/1",
            "sheet": sheet.id,
            "run": sheet.run,
            "seed": sheet.seed,
            "systems": list(sheet.systems),
            "same": [[*pair, number] for pair, number in sheet.same.items()],
            "items": [
                {"item": i.item, "id": i.source_id, "group": i.group, "A": i.left, "B": i.right} for i in sheet.items
            ],
        },
    )


@dataclass(frozen=True)
class Key:
    """What `write_key` wrote: item -> (system behind A, system behind B), and item -> group:id in the run."""

    sheet: str
    systems: tuple[str, ...]
    sides: dict[str, tuple[str, str]]
    same: dict[tuple[str, str], int]
    sources: dict[str, str] = field(default_factory=dict)


def read_key(folder: Path) -> Key:
    """Read the key of an exported sheet.

    Raises:
        DataError: there is none, or it was changed.
    """
    values = read_sealed(folder / KEY)
    if values is None or values.get("schema") != "lingraft.sheet/1":
        raise DataError(
            f"{folder / KEY} is missing or not as it was written; name the folder that `lingraft sheet export` made"
        )
    return Key(
        values["sheet"],
        tuple(values["systems"]),
        {row["item"]: (row["A"], row["B"]) for row in values["items"]},
        {(one, other): int(number) for one, other, number in values["same"]},
        {row["item"]: f"{row['group']}:{row['id']}" for row in values["items"]},
    )


@dataclass(frozen=True)
class Filled:
    """The ratings of one rater: item -> place on the scale from -2 (A much better) to 2."""

    rater: str
    file: str
    ratings: dict[str, int]


def read_filled(path: Path, key: Key) -> Filled:
    """Read a filled sheet, CSV (comma, semicolon or tab) or the form's JSON; rows without a rating are left out.

    The rater is the one named in the file, else the file's name.

    Raises:
        DataError: the file or a row of it cannot be used; the sentence names the line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); save the sheet as CSV in UTF-8") from error
    rater, rows = _json_rows(path, text) if text.lstrip().startswith("{") else _csv_rows(path, text)
    ratings: dict[str, int] = {}
    first: dict[str, str] = {}
    for place, item, rating in rows:
        if item not in key.sides:
            raise DataError(
                f"{path}, {place}: item {item!r} is not of this sheet ({key.sheet}); was the file filled from another "
                f"export, or the column changed?"
            )
        if item in first:
            raise DataError(f"{path}, {place}: item {item!r} was rated before on {first[item]}; keep one of the two")
        first[item] = place
        word = rating.strip().upper()
        if not word:
            continue
        if word not in RATINGS:
            raise DataError(
                f"{path}, {place}: {rating.strip()!r} is no rating; write one of AA, A, tie, B, BB, or leave it empty"
            )
        ratings[item] = RATINGS[word]
    if not ratings:
        raise DataError(f"{path} holds no rating; fill the column `rating` with AA, A, tie, B or BB")
    return Filled(rater or path.stem, str(path), ratings)


def write_sheet(folder: Path, sheet: Sheet, form: str, reference: bool, campaign: str = "") -> list[Path]:
    """Write `raters/` (the sheet, the form, instructions), to be handed out, and `key.json`, to be kept.

    Args:
        folder: to write into.
        sheet: drawn and blinded.
        form: the page `raters/form.html`.
        reference: whether `raters/sheet.csv` has a column with the reference.
        campaign: `pearmut.json`, for whoever sets it up: it names the systems; "": none.

    Raises:
        DataError: the folder holds the key of another sheet.
    """
    if (folder / KEY).exists() and read_key(folder).sheet != sheet.id:
        raise DataError(f"{folder} holds another sheet, whose key would be lost; choose another folder with --out")
    raters = folder / "raters"
    written = [raters / "sheet.csv", raters / "form.html", raters / "instructions.txt", folder / KEY]
    write_atomic(written[0], sheet_csv(sheet, reference))
    write_atomic(written[1], form)
    write_atomic(written[2], instructions(sheet))
    if campaign:
        written.insert(3, folder / CAMPAIGN)
        write_atomic(written[3], campaign)
    write_key(written[-1], sheet)
    return written


def _csv_rows(path: Path, text: str) -> tuple[str, list[tuple[str, str, str]]]:
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[str, str, str]] = []
    rater = ""
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in ("item", "rating") if name not in names]
        if missing:
            raise DataError(f"{path}, line 1: there is no column {missing[0]!r}; keep the sheet's first row as it was")
        item, rating = names.index("item"), names.index("rating")
        rater_at = names.index("rater") if "rater" in names else -1
        start = reader.line_num + 1
        for row in reader:
            place, start = f"line {start}", reader.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if len(row) <= max(item, rating):
                raise DataError(f"{path}, {place}: the row has {len(row)} of {len(names)} columns; restore it")
            rows.append((place, row[item].strip(), row[rating]))
            if rater_at >= 0 and len(row) > rater_at:
                rater = rater or row[rater_at].strip()
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}); save the sheet as CSV again") from error
    return rater, rows


def _json_rows(path: Path, text: str) -> tuple[str, list[tuple[str, str, str]]]:
    try:
        values: Any = json.loads(text)
        rows = [(f"rating {n}", str(r["item"]), str(r["rating"])) for n, r in enumerate(values["ratings"], start=1)]
        return str(values.get("rater") or "").strip(), rows
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is not what the form saves ({error!r}); save the ratings from the form again"
        ) from error


def _alike(row: SideBySide, pair: tuple[str, str]) -> bool:
    return row.outputs[pair[0]].split() == row.outputs[pair[1]].split()

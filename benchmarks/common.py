"""What the benchmarks share: options, data, the description of the machine, and the one result object."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from lingraft.core.environment import versions
from lingraft.core.errors import DataError, LingraftError, UsageError
from lingraft.data.readers import PairSource, read_pairs
from lingraft.data.records import Pair, Rejected
from lingraft.methods.base import MethodInputs
from lingraft.methods.radis import RaDis, RaDisParams

SEED = 1
STARTER = "starter:train.de-en.jsonl"
REQUIRED = ("name", "ours", "peer", "ratio", "unit", "n", "device", "versions")


def positive(text: str) -> int:
    """Return a whole number above 0 given as an option."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value


def parser(summary: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=summary)
    made.add_argument("--quick", action="store_true", help="smaller and once: under 3 minutes on 2 cores")
    made.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    made.add_argument("--model", default="smollm2-135m-instruct", help="alias, folder or hub id")
    made.add_argument("--pairs", help="your own file of pairs; without it, the shipped starter pairs")
    made.add_argument("--from", dest="source", help="language code of the source side of --pairs")
    made.add_argument("--to", dest="target", help="language code of the target side of --pairs")
    made.add_argument("--rows", type=positive, help="number of pairs")
    made.add_argument("--repeats", type=positive, help="repetitions; the median is reported")
    return made


def load_pairs(path: str | None, source: str | None, target: str | None, rows: int) -> list[Pair]:
    """Return the first `rows` pairs of the user's file, or of the starter pairs where there is none.

    Raises:
        UsageError: languages without a file, a file without languages, or an unknown language.
        DataError: fewer pairs than asked for.
    """
    if path is None and (source or target):
        raise UsageError("--from and --to describe the file of --pairs; give all three or none of them")
    if path is not None and not (source and target):
        raise UsageError(f"the languages of {path} are not known; add --from and --to, such as --from de --to en")
    try:
        described = PairSource(path=path or STARTER, source=source or "de", target=target or "en", limit=rows)
    except ValidationError as error:
        raise UsageError(
            f"--pairs, --from or --to: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from error
    pairs: list[Pair] = []
    for row in read_pairs(described):
        if not isinstance(row, Rejected) and len(pairs) < rows:
            pairs.append(row.record)
    if len(pairs) < rows:
        raise DataError(f"{described.path} holds {len(pairs)} usable pairs, not {rows}; lower --rows")
    return pairs


def radis_for(pairs: Sequence[Pair], max_rationale_tokens: int) -> tuple[RaDis, MethodInputs]:
    """Return RaDis with its inputs prepared; no filter, so that every pair keeps its rationale."""
    method = RaDis(RaDisParams(max_rationale_tokens=max_rationale_tokens, filters=[]))
    inputs = MethodInputs(pairs, seed=SEED)
    return method, replace(inputs, prepared=method.prepare(inputs))


def device_name(device: torch.device) -> str:
    """Return the device in words, for example "AMD EPYC 9R14, 2 threads, AVX512"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")  # Linux only; elsewhere the standard library knows the name
    if listing.exists():
        lines = listing.read_text("utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def all_versions(*more: str) -> dict[str, str]:
    """Return the versions that a run records, and those of the packages `more` that are installed."""
    found = versions()
    for name in more:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def build_result(
    name: str,
    ours: Sequence[float],
    peers: Mapping[str, Sequence[float]],
    *,
    unit: str,
    n: int,
    device: str,
    package_versions: Mapping[str, str],
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the result object.

    Args:
        name: of the benchmark.
        ours, peers: rates of each repetition, higher is better; repetition i of all of them ran side by side. The
            first peer is the headline.
        unit: of the rates.
        n: requests or rows measured in each repetition.
        device: in words.
        package_versions: package -> version.
        details: what else a reader needs; may not hide a required key.

    Returns:
        The `REQUIRED` keys (medians; `ratio` is the quotient of the medians), `peers` with rate, ratio and the
        range of the ratios of single repetitions for each peer, `repeats`, and the details.

    Raises:
        UsageError: no peer, no repetition, unequal numbers of repetitions, a rate that is not above 0, or a detail
            with the name of another key.
    """
    if not peers or not ours or any(len(rates) != len(ours) for rates in peers.values()):
        raise UsageError(f"benchmark {name}: ours and at least one peer need equally many repetitions, at least one")
    if min(*ours, *(rate for rates in peers.values() for rate in rates)) <= 0:
        raise UsageError(f"benchmark {name}: a rate is not above 0; measure more rows")
    middle = statistics.median(ours)
    compared = {}
    for peer, rates in peers.items():
        ratios = [mine / theirs for mine, theirs in zip(ours, rates, strict=True)]
        compared[peer] = {
            "rate": round(statistics.median(rates), 2),
            "ratio": round(middle / statistics.median(rates), 3),
            "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        }
    headline = next(iter(compared.values()))
    result: dict[str, Any] = {
        "name": name,
        "ours": round(middle, 2),
        "peer": headline["rate"],
        "ratio": headline["ratio"],
        "unit": unit,
        "n": n,
        "device": device,
        "versions": dict(package_versions),
        "peers": compared,
        "repeats": len(ours),
    }
    hidden = sorted(result.keys() & details.keys())
    if hidden:
        raise UsageError(f"benchmark {name}: the detail {hidden[0]!r} has the name of another key; rename it")
    return result | dict(details)


def as_table(result: Mapping[str, Any]) -> str:
    """Return a result as text to read."""
    lines = [f"{result['name']}: n = {result['n']}, {result['repeats']} repetition(s), {result['device']}", ""]
    lines.append(f"{'':<24}{result['unit']:>20}{'ours / it':>12}{'range':>18}")
    lines.append(f"{'ours':<24}{result['ours']:>20.1f}")
    for peer, values in result["peers"].items():
        low, high = values["ratio_range"]
        span = f"{low:.2f} to {high:.2f}"
        lines.append(f"{peer:<24}{values['rate']:>20.1f}{values['ratio']:>12.2f}{span:>18}")
    lines.append("")
    shown = {key: value for key, value in result.items() if key not in (*REQUIRED, "peers", "repeats")}
    for key, value in (shown | {"versions": result["versions"]}).items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
        lines.append(f"{key.replace('_', ' ')}: {text}")
    return "\n".join(lines)


def run(
    measure: Callable[[argparse.Namespace], dict[str, Any]],
    options: argparse.Namespace,
    shown: Callable[[Mapping[str, Any]], str] = as_table,
) -> int:
    """Measure, print the result to stdout and return the exit code; user errors become one line on stderr.

    Args:
        measure: returns the result.
        options: of the command line; with `json` the result is printed as one JSON object.
        shown: returns the result as text to read.
    """
    try:
        result = measure(options)
    except LingraftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted; what an --out holds is used when the same command is given again", file=sys.stderr)
        return 130
    print(json.dumps(result, indent=2, ensure_ascii=False) if options.json else shown(result))
    return 0

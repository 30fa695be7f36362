"""Coverage-guided fuzzing (atheris, libFuzzer) of everything that reads bytes from strangers.

    python tests/fuzz [--seconds 60] [--only pairs-tmx recipe ...] [--keep FOLDER]

The time is divided among the entry points of `tests/hostile.py`, each in a process of its own with a limit on memory
(1 GB) and on the time of one input (20 s). Exit code 1 and the input's file at the first defect of each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "support")]

INSTRUMENTED = [
    "lingraft.data",
    "lingraft.recipe",
    "yaml",
    "csv",
    "lingraft.serving",
    "h11",
]


def one(name: str, folder: Path, seconds: int) -> None:
    """Fuzz one entry point; ends the process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        import hostile
    entry, seeds = hostile.ENTRY_POINTS[name]
    corpus, words = folder / "corpus", folder / "words"
    corpus.mkdir(parents=True, exist_ok=True)
    memory = Path("/dev/shm")  # files are synced to the disk, which would take most of the time
    scratch = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    for i, seed in enumerate(seeds):
        (corpus / f"seed-{i}").write_bytes(seed)
    pieces = ("".join(f"\\x{byte:02x}" for byte in piece) for piece in hostile.POISON if len(piece) <= 64)
    words.write_text("".join(f'"{piece}"\n' for piece in pieces), "utf-8")
    options = {
        "max_total_time": seconds,
        "timeout": 20,
        "rss_limit_mb": 1024 + 1024,  # the imports alone take half of the second
        "max_len": 20_000,
        "dict": words,
        "artifact_prefix": f"{folder}/defect-",
        "print_final_stats": 1,
    }
    arguments = [sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)]
    atheris.Setup(arguments, lambda data: entry(data, scratch))
    atheris.Fuzz()


def main() -> None:
    """Parse the arguments and fuzz each entry point in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="in all, at least 2 for each entry point")
    parser.add_argument("--only", nargs="+", help="entry points")
    parser.add_argument("--keep", type=Path, help="folder for corpora and defects; by default build/fuzz")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    keep = arguments.keep or Path("build/fuzz")
    if arguments.one:
        one(arguments.one, keep / arguments.one, arguments.seconds)
    from hostile import ENTRY_POINTS

    names = arguments.only or list(ENTRY_POINTS)
    defects = []
    for name in names:
        with tempfile.TemporaryFile("w+") as log:
            command = [sys.executable, __file__, "--one", name, "--keep", str(keep)]
            share = max(2, arguments.seconds // len(names))
            environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
            code = subprocess.run(
                [*command, "--seconds", str(share)], stdout=log, stderr=subprocess.STDOUT, env=environment
            ).returncode
            log.seek(0)
            lines = log.read().splitlines()
        runs = next((line.split()[-1] for line in lines if line.startswith("stat::number_of_executed_units")), "?")
        print(f"{name:20}{runs:>10} inputs{'' if code == 0 else '   DEFECT'}", flush=True)
        if code:
            defects.append(name)
            print("\n".join(lines[-40:]), flush=True)
    sys.exit(1 if defects else 0)


if __name__ == "__main__":
    main()

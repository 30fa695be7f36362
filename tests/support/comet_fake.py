"""Stands in for the COMET worker in tests of its protocol: the score of a row is a function of its texts.

Usage: comet_fake.py HOW LOG FD; every row that is scored is noted in LOG.
"""

from __future__ import annotations

import json
import os
import sys


def points(row: dict[str, str]) -> float:
    """Score that a test can compute as well."""
    return len(row["mt"]) / 10 + len(row["src"]) / 100 + len(row["ref"]) / 1000


def main() -> int:
    """Answer as the real worker does, or fail as `how` says."""
    how, log, descriptor = sys.argv[1:]
    print("noise that a library prints on standard output")
    print("a warning on standard error", file=sys.stderr)
    with os.fdopen(int(descriptor), "w") as out, open(log, "a", encoding="utf-8") as notes:
        settings = json.loads(sys.stdin.readline())
        notes.write(json.dumps(settings) + "\n")
        if how == "error":
            out.write(json.dumps({"error": "KeyError: 'no such class'"}) + "\n")
            return 1
        if how == "dies":
            print("Killed by the kernel", file=sys.stderr)
            return 137
        out.write(json.dumps({"class": "Fake", "references": True, "versions": {}}) + "\n")
        out.flush()
        for line in sys.stdin:
            rows = json.loads(line)["rows"]
            notes.writelines(json.dumps(row) + "\n" for row in rows)
            notes.flush()
            scores = [points(row) for row in rows]
            out.write(json.dumps({"scores": scores[1:] if how == "short" else scores}) + "\n")
            out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

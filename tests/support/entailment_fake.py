"""Stands in for the entailment worker: the share of a hypothesis's words that the premise has. Usage: LOG FD."""

from __future__ import annotations

import json
import os
import sys


def main() -> int:
    """Answer as the real worker does, and note every row."""
    log, descriptor = sys.argv[1:]
    with os.fdopen(int(descriptor), "w") as out, open(log, "a", encoding="utf-8") as notes:
        sys.stdin.readline()
        out.write(json.dumps({"labels": {}, "entailment": 0}) + "\n")
        out.flush()
        for line in sys.stdin:
            rows = json.loads(line)["rows"]
            notes.writelines(json.dumps(row) + "\n" for row in rows)
            notes.flush()
            scores = []
            for row in rows:
                known, words = set(" ".join(row["premise"]).split()), row["hypothesis"].split()
                scores.append(sum(word in known for word in words) / len(words))
            out.write(json.dumps({"scores": scores}) + "\n")
            out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

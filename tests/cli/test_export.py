"""`lingraft export`: options that do not go together."""

from __future__ import annotations

from typing import Any

import pytest

from commands import lingraft, one_sentence  # noqa: F401  (fixtures)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--quantize", "q8_0"], "--quantize goes with --gguf"),
        (["--gguf", "--quantize", "q4_0"], "--quantize is q8_0, in place of --dtype; 'q4_0' is not"),
        (["--gguf", "--quantize", "q8_0", "--dtype", "bf16"], "in place of --dtype"),
        (["--gguf", "--route"], "give route or gguf"),
    ],
)
def test_options_that_do_not_go_together_are_refused(lingraft: Any, options: list[str], told: str) -> None:
    one_sentence(lingraft("export", "--graft", "absent", "--out", "out", *options), 2, told)

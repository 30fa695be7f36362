"""Modelfiles: what Ollama reads in them is what was meant."""

from __future__ import annotations

import pytest

from lingraft.core.errors import UsageError
from lingraft.models.modelfile import modelfile, quoted
from lingraft.rendering.go_template import TurnForm

FORM = TurnForm("<s>", ("<sys>", "</sys>"), "<a>", "<q>", "\n<a>\n")


def test_a_modelfile_has_prompts_stops_and_greedy_settings() -> None:
    text = modelfile("model.gguf", FORM, stop=["<|im_end|>", "\nNote:", "<|im_end|>"], notes=["Two\nlines."])
    assert text.startswith('# Two lines.\nFROM ./model.gguf\nTEMPLATE """{{ if .System }}<sys>')
    assert text.count("PARAMETER stop") == 2
    assert 'PARAMETER stop """<|im_end|>"""\n' in text
    assert 'PARAMETER stop """\nNote:"""\n' in text  # Ollama knows no escapes: the line is a line
    assert text.endswith("PARAMETER temperature 0\nPARAMETER repeat_penalty 1\n")


@pytest.mark.parametrize(("text", "held"), [('a"""b', '"""'), ("a\u200bb", r"U\+200B"), ("\x00", r"U\+0000")])
def test_what_a_modelfile_cannot_hold_is_refused(text: str, held: str) -> None:
    with pytest.raises(UsageError, match=f"the stop holds {held}, which a Modelfile of Ollama cannot"):
        quoted(text, "the stop")
    with pytest.raises(UsageError, match="a text at which answers end holds"):
        modelfile("model.gguf", FORM, stop=[text])

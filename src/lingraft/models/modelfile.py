"""The Modelfile with which Ollama takes a GGUF file: prompts, stops and settings as in training."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.core.errors import UsageError
from lingraft.rendering.go_template import TurnForm


def modelfile(file: str, form: TurnForm, *, stop: Sequence[str], notes: Sequence[str] = ()) -> str:
    """Return the content of a Modelfile.

    Args:
        file: name of the GGUF file, in the same folder.
        form: of the prompts.
        stop: texts at which an answer ends.
        notes: for who reads it, a line each.

    Raises:
        UsageError: a text cannot be written in a Modelfile.
    """
    lines = [f"# {' '.join(note.split())}" for note in notes]
    lines += [f"FROM ./{file}", f"TEMPLATE {quoted(form.go(), 'the chat template')}"]
    lines += [f"PARAMETER stop {quoted(text, 'a text at which answers end')}" for text in dict.fromkeys(stop)]
    # As Lingraft translates, and as the graft was measured: the most probable token each time.
    lines += ["PARAMETER temperature 0", "PARAMETER repeat_penalty 1"]
    return "\n".join(lines) + "\n"


def quoted(text: str, what: str) -> str:
    '''Return a text between the quotation marks of a Modelfile, which knows no escapes.

    Args:
        text: to be quoted.
        what: it is, for the message.

    Raises:
        UsageError: it holds `"""`, or characters that Ollama leaves out.
    '''
    hidden = [one for one in text if not one.isprintable() and one not in "\n\r\t"]
    if '"""' in text or hidden:
        held = '"""' if '"""' in text else f"U+{ord(hidden[0]):04X}"
        raise UsageError(f"{what} holds {held}, which a Modelfile of Ollama cannot; export without --gguf")
    return f'"""{text}"""'

"""The README beside a GGUF file: how llama.cpp and Ollama use it, and where a translation ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.core.printable import fence, inline_code, markdown
from lingraft.models.exported_card import card_front, card_results, described
from lingraft.models.gguf_agreement import Agreement
from lingraft.models.graft import GraftInfo
from lingraft.rendering.renderer import Renderer
from lingraft.translation.wording import ask


def gguf_card(
    info: GraftInfo,
    graft: Path,
    renderer: Renderer,
    *,
    name: str,
    kind: str,
    agreement: Agreement | None,
    warnings: Sequence[str],
    licence: Mapping[str, Any],
) -> str:
    """Return the model card of a GGUF file as Markdown with the hub's YAML front matter.

    Args:
        info: of the graft.
        graft: its folder, whose card has what was measured.
        renderer: of its prompts.
        name: of the model.
        kind: type of its weights.
        agreement: of that type with float32.
        warnings: what a user should know.
        licence: keys of the front matter about that of the base, as far as it is known.
    """
    lines = [
        card_front(info, "gguf", licence),
        f"# {markdown(name)}",
        f"{described(info)}, merged into one model in {kind}, as GGUF.",
        "In float32 llama.cpp read 200 texts as the same tokens as transformers, and wrote the same text greedily.",
    ]
    if agreement:
        lines.append(
            f"In {kind} the most probable next token is that of float32 at {100 * agreement.same_top_token:.1f} % of "
            f"{agreement.positions:,} positions."
        )
    asked = (
        ask(info.instruction, "...", info.directions[0].source, info.directions[0].target) if info.directions else ()
    )
    lines += [
        "## Use",
        fence("ollama create my-graft -f Modelfile\nollama run my-graft", "console"),
        fence("llama-server -m model.gguf --jinja", "console"),
    ]
    if asked:
        lines += ['Ask for a translation in these words; "..." is the text:', fence(asked[-1].content, "text")]
    if renderer.template.variables:
        lines.append(
            f"The chat template wants {inline_code(renderer.template.variables)}: the Modelfile gives it, llama-server "
            f"takes it as `chat_template_kwargs` of a request."
        )
    if info.delimiter:
        lines.append(
            f"The translation comes first in the answer and ends at {inline_code(info.delimiter)}; what follows is no "
            f"part of it."
        )
    if info.stop:
        lines.append(
            f"The Modelfile lets answers end at {inline_code(info.stop)}, chats as well; give llama-server the same as "
            f"`stop` of a request."
        )
    lines += warnings
    if results := card_results(graft):
        lines.append(results)
    return "\n\n".join(lines) + "\n"

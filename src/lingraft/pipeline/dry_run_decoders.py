"""What the systems that translate by a decoder write, with the hours that takes."""

from __future__ import annotations

from collections.abc import Iterator

from lingraft.decoders.direct import DRAFTS
from lingraft.pipeline.dry_run_device import Size, generation_hours
from lingraft.pipeline.dry_run_stages import Line
from lingraft.recipe.decoders import decoded_systems
from lingraft.recipe.schema import Recipe


def decoder_lines(
    recipe: Recipe, segments: int, answer: float, size: Size, flops: float, read: float = 0.0
) -> Iterator[Line]:
    """Yield a line for each system that decodes. Drafts are what its weights have translated anyway; what other engines
    write is named, and no time is reckoned for it.

    Args:
        recipe: with its decoders.
        segments: of all test sets.
        answer: tokens of a mean translation.
        size: of the base.
        flops: floating-point operations a second.
        read: tokens of the texts among which decoders choose what they show, where they compare them by the base's
            states; they are read once.
    """
    for system in decoded_systems(recipe):
        own = elsewhere = calls = 0.0
        for step in system.decoder.expected_steps():
            calls += step.answers
            if step.name == DRAFTS and isinstance(step.of, str):
                continue
            tokens = segments * step.answers * (answer if step.tokens is None else step.tokens)
            if isinstance(step.of, str):
                own += tokens
            else:
                elsewhere += tokens
        note = f"about {calls:g} call{'' if calls == 1 else 's'} a segment"
        note += f"; {elsewhere:,.0f} tokens more by another engine" if elsewhere else ""
        hours = generation_hours(own, size, flops)
        if system.decoder.reads_base:
            note += f"; {read:,.0f} tokens are read to choose what is shown" if read else "; by what was read before"
            hours += 2 * size.parameters * read / flops / 3600
            read = 0.0
        yield Line(stage=f"decode {system.name}", tokens=own, supervised=0, hours=hours, note=note)

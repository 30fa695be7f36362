"""Files with structure: what loses a code is asked again, then in pieces, then left and named; a kill loses a part."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import lingraft as lg
from commands import model  # noqa: F401  (a fixture)
from lingraft.conversation import document_work, file_translation
from lingraft.core.errors import TooLongError
from lingraft.decoders.base import DECODERS, Decoder
from lingraft.translation.direct import Translation

Answer = Callable[[str, int], str]


class Translator:
    """Stands for an open graft: answers by a function of a text and the number of the draw."""

    def __init__(self, answer: Answer, name: str = "a model") -> None:
        self._answer, self.asked = answer, list[tuple[str, int]]()
        self.identity = [name]
        self.chosen: Any = None

    def direction(self, source: str, target: str) -> tuple[str, str]:
        return source or "de", target or "en"

    def decoder(self, choice: Any, source: str, target: str) -> Decoder:
        self.chosen = choice
        return DECODERS.create(choice)

    def translations(
        self, texts: Mapping[str, str], source: str, target: str, most: int, decoder: object, draw: int
    ) -> Iterator[Translation | TooLongError]:
        for key, text in reversed(texts.items()):
            self.asked.append((text, draw))
            answer = self._answer(text, draw)
            if answer == "TOO LONG":
                yield TooLongError(key, "it is too long")
            else:
                yield Translation(key, answer, len(answer), "unfinished" if answer.endswith("…") else "")


def shout(text: str, draw: int) -> str:
    return text.upper()


def translated(answer: Answer, text: str, **options: Any) -> lg.TranslatedFile:
    format = options.pop("format", "markdown")
    return lg.translate_file(
        Translator(answer),
        text.encode(),
        options=lg.FileOptions(format=format, **options),
        quiet=True,  # type: ignore[arg-type]
    )


def test_what_keeps_all_is_asked_for_once() -> None:
    opened = Translator(shout)
    found = lg.translate_file(opened, b"Ein *Satz*.\n\nEin *Satz*.\n\n12\n", options=lg.FileOptions(format="markdown"))  # type: ignore[arg-type]
    assert found.data == b"EIN *SATZ*.\n\nEIN *SATZ*.\n\n12\n"
    assert opened.asked == [("Ein <1>Satz</1>.", 0)]
    assert [(one.id, one.line, one.how, one.state) for one in found.segments] == [
        ("line 1", 1, "first", "translated"),
        ("line 3", 3, "first", "translated"),
    ]


def test_what_loses_a_code_is_drawn_again() -> None:
    found = translated(lambda text, draw: text.upper() if draw == 2 else re.sub(r"<.*?>", "", text), "Ein *Satz*.\n")
    assert found.data == b"EIN *SATZ*.\n"
    assert [(one.how, one.translation) for one in found.segments] == [("drawn", "EIN <1>SATZ</1>.")]


def test_what_always_loses_it_is_asked_for_in_pieces() -> None:
    text = "Ein *Satz* mit {name} unter https://a.de/x. Noch `einer`, lang.\n"
    found = translated(lambda text, draw: re.sub(r"<.*?>|\{.*?\}|https\S+", "", text).upper(), text)
    assert found.data == b"EIN *SATZ* MIT {name} UNTER https://a.de/x. NOCH `einer`, LANG.\n"
    assert [one.how for one in found.segments] == ["pieces"]


def test_what_no_translation_keeps_is_left_and_named() -> None:
    def answer(text: str, draw: int) -> str:
        return "" if "Verlust" in text else text.upper()

    found = translated(answer, "Gut.\n\nVerlust.\n\nAuch gut.\n")
    assert found.data == b"GUT.\n\nVerlust.\n\nAUCH GUT.\n"
    assert [(one.id, one.state) for one in found.lost] == [("line 3", "lost")]
    assert "it is empty" in found.lost[0].problem
    said = file_translation.losses(found)
    assert said.startswith("1 of 3 segments is left as in the source")
    assert "line 3 (it is empty)" in said


@pytest.mark.parametrize("wrong", ["TOO LONG", "nur ein Anfang…"])
def test_too_long_and_unfinished_ones_are_cut_at_sentences(wrong: str) -> None:
    found = translated(lambda text, draw: wrong if "zwei. Und" in text else text.upper(), "Satz zwei. Und drei.\n")
    assert (found.data, found.segments[0].how) == (b"SATZ ZWEI. UND DREI.\n", "pieces")


def test_a_translation_that_breaks_the_structure_is_found_among_many() -> None:
    text = "\n\n".join(f"- Punkt {number}" for number in range(30)) + "\n"
    found = translated(lambda text, draw: "eins\n" if text.endswith(" 7") else text.upper(), text)
    assert not found.lost  # one line of it is one line
    page = "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},500\nSatz {n}\n\n" for n in range(1, 8))

    def answer(text: str, draw: int) -> str:
        return "00:00:01,000 --> 00:00:01,100" if text.endswith("5") else text.upper()

    found = translated(answer, page, format="srt")
    assert [one.id for one in found.lost] == ["line 19"]
    assert found.data.decode() == page.upper().replace("SATZ 5", "Satz 5")


def test_a_killed_translation_goes_on_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_work, "PART", 4)
    text = "".join(f"Satz {number} *hier*.\n\n" for number in range(18))
    source, out, whole = tmp_path / "a.md", tmp_path / "b.md", tmp_path / "c.md"
    source.write_text(text)

    def answer(text: str, draw: int) -> str:
        return text.upper() if draw or "7" not in text else "ohne Code"

    lg.translate_file(Translator(answer), source, whole, quiet=True)  # type: ignore[arg-type]
    left = 10

    def killed(text: str, draw: int) -> str:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return answer(text, draw)

    with pytest.raises(KeyboardInterrupt):
        lg.translate_file(Translator(killed), source, out, quiet=True)  # type: ignore[arg-type]
    assert not out.exists()
    opened = Translator(answer)
    lg.translate_file(opened, source, out, quiet=True)  # type: ignore[arg-type]
    assert out.read_bytes() == whole.read_bytes()
    assert len({text for text, _ in opened.asked}) == 18 - 8  # two parts were kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.md", "b.md", "c.md"]
    other, left = Translator(shout, "another model"), 10
    with pytest.raises(KeyboardInterrupt):
        lg.translate_file(Translator(killed), source, out, quiet=True)  # type: ignore[arg-type]
    lg.translate_file(other, source, out, quiet=True)  # type: ignore[arg-type]
    assert len({text for text, _ in other.asked}) == 18  # nothing of another model's is taken


def test_segments_are_listed_beside_the_output_where_some_are_lost(tmp_path: Path) -> None:
    source, out = tmp_path / "a.md", tmp_path / "b.md"
    source.write_text("Gut.\n\nVerlust.\n")
    answer = lambda text, draw: "" if "Verlust" in text else text.upper()  # noqa: E731
    lg.translate_file(Translator(answer), source, out, quiet=True)  # type: ignore[arg-type]
    listed = [json.loads(line) for line in (tmp_path / "b.md.segments.jsonl").read_text().splitlines()]
    assert [(one["id"], one.get("state", "translated")) for one in listed] == [
        ("line 1", "translated"),
        ("line 3", "lost"),
    ]
    lg.translate_file(Translator(shout), source, out, quiet=True)  # type: ignore[arg-type]
    assert not (tmp_path / "b.md.segments.jsonl").exists()
    assert out.read_text() == "GUT.\n\nVERLUST.\n"


def test_formats_are_told_from_names_or_named(tmp_path: Path) -> None:
    with pytest.raises(lg.UsageError, match="cannot be told from its name; name one of csv, docx, "):
        translated(shout, "a", format="")
    with pytest.raises(lg.UsageError, match="no format 'markdwn' of documents; did you mean 'markdown'"):
        translated(shout, "a", format="markdwn")
    with pytest.raises(lg.UsageError, match="column"):
        translated(shout, "a", format_params={"column": "a"})
    with pytest.raises(lg.DataError, match="cannot be read: No such file"):
        lg.translate_file(Translator(shout), tmp_path / "none.md")  # type: ignore[arg-type]


TMX = """<tmx version="1.4"><header srclang="de"/><body>
<tu><tuv xml:lang="de"><seg>Ein <bpt i="1">&lt;b></bpt>Satz<ept i="1">&lt;/b></ept>.</seg></tuv>
<tuv xml:lang="en"><seg>A <bpt i="1">&lt;b></bpt>sentence<ept i="1">&lt;/b></ept>.</seg></tuv></tu>
<tu><tuv xml:lang="de"><seg>Mit <ph x="1">x</ph> Code</seg></tuv><tuv xml:lang="en"><seg>lost</seg></tuv></tu>
</body></tmx>"""


def test_what_is_in_a_memory_is_taken_over_where_it_keeps_all(tmp_path: Path) -> None:
    memory = tmp_path / "m.tmx"
    memory.write_text(TMX)
    opened = Translator(shout)
    options = lg.FileOptions(format="markdown", memory=memory)
    found = lg.translate_file(opened, b"Ein *Satz*.\n\nMit `x` Code\n\nNeu.\n", options=options, quiet=True)  # type: ignore[arg-type]
    assert found.data == b"A *sentence*.\n\nMIT `x` CODE\n\nNEU.\n"
    assert [one.how for one in found.segments] == ["memory", "first", "first"]
    assert [text for text, _ in opened.asked] == ["Neu.", "Mit <1/> Code"]
    assert opened.chosen["kind"] == "icl"
    assert (opened.chosen["memory"], opened.chosen["languages"]) == (str(memory), ["de", "en"])
    with pytest.raises(lg.DataError, match="no unit has both de and fr"):
        lg.translate_file(opened, b"a b", options=lg.FileOptions("de", "fr", "markdown", memory=memory))  # type: ignore[arg-type]


def test_a_low_estimate_makes_a_translation_doubtful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def estimated(opened: object, metric: object, rows: list[tuple[str, str]], source: str, target: str) -> list[float]:
        return [-2.0 if "Zwei" in text else -0.5 for text, _ in rows]

    monkeypatch.setattr(file_translation, "estimates", estimated)
    source, out = tmp_path / "a.po", tmp_path / "b.po"
    source.write_text('msgid "Eins"\nmsgstr ""\n\nmsgid "Zwei"\nmsgstr ""\n')
    found = lg.translate_file(Translator(shout), source, out, options=lg.FileOptions(scores="model"), quiet=True)  # type: ignore[arg-type]
    assert [(one.score, one.state) for one in found.segments] == [(-0.5, "translated"), (-2.0, "doubtful")]
    assert out.read_text() == 'msgid "Eins"\nmsgstr "EINS"\n\n#, fuzzy\nmsgid "Zwei"\nmsgstr "ZWEI"\n'
    assert len((tmp_path / "b.po.segments.jsonl").read_text().splitlines()) == 2
    with pytest.raises(lg.UsageError, match="compares with references"):
        translated(shout, "a b", scores="chrf")


def test_the_model_estimates_its_own_translations(model: Path) -> None:
    import torch

    from lingraft.conversation.estimates import estimates
    from lingraft.translation.wording import TranslationSystem, ask

    rows = [("Guten Tag.", "Hello there."), ("Gut.", "Good and well.")]
    with lg.open_graft(model=model, engine="transformers", quiet=True) as opened:
        found = estimates(opened, None, rows, "de", "en")
        with opened.held() as held:
            renderer, network = held.loaded.renderer, held.loaded.model
            for value, (text, said) in zip(found, rows, strict=True):
                prompt = renderer.prompt_ids(ask(TranslationSystem().instruction, text, "de", "en")).ids
                ids = renderer.plain_ids(said)
                states = network.get_decoder()(torch.tensor([[*prompt, *ids]])).last_hidden_state
                weights = network.lm_head.weight.double()  # logits in 16 bits would lie on steps
                logits = states[0, len(prompt) - 1 : -1].double() @ weights.T
                expected = torch.log_softmax(logits, -1)[range(len(ids)), ids].mean().item()
                assert value == pytest.approx(expected, abs=1e-4)

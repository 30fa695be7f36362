"""`icl`: which pairs are shown, in which order and words, and which never are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu

from decoding import Asked, decoder_inputs, made
from lingraft.core.errors import DataError, LingraftError, ModelError, UsageError
from lingraft.data.records import Message, Pair, Sampling
from lingraft.decoders import exemplars
from lingraft.decoders.base import Surroundings, decoded
from lingraft.engines.scripted import Rule
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import TranslationSystem

SYSTEM = TranslationSystem("Into {target_name}: {source}", stop=("\nNote:",))
SOURCE = Source("t/1", "Die alte Katze schläft auf dem Sofa.", "de", "en")
SIDES = [
    ("Der Hund schläft auf dem Sofa.", "The dog sleeps on the sofa."),
    ("Eine Katze frisst.", "A cat eats."),
    ("Gestern regnete es.", "It rained yesterday."),
    ("Die Züge fahren nicht mehr.", "The trains have stopped running."),
    ("Zwei Vögel singen laut.", "Two birds sing loudly."),
]
PAIRS = [Pair(f"p{n}", *sides, "de", "en") for n, sides in enumerate(SIDES)]
OTHER = [pair.reversed() for pair in PAIRS]
TARGET = {pair.source: pair.target for pair in PAIRS}


def run(
    pairs: Any = (*PAIRS, *OTHER), source: Source = SOURCE, seed: int = 1, embed: Any = None, **params: Any
) -> tuple[list[tuple[str, str]], Translation]:
    """Return what is shown, as (question, answer), and the translation."""
    asked = Asked([Rule(answer="The old cat.\nNote: x")])
    inputs = decoder_inputs(asked, exemplars=pairs, sampling=Sampling(9, seed=3), seed=seed, embed=embed)
    (found,) = decoded(made("icl", **params), [source], SYSTEM, inputs).values()
    ((_, of, (request,)),) = asked.steps
    *turns, last = request.messages
    assert last == Message("user", f"Into {'English' if source.target_lang == 'en' else 'German'}: {source.text}")
    assert (of, request.sampling.stop, request.direct) == ("system", SYSTEM.stop, True)
    assert [one.role for one in turns] == ["user", "assistant"] * (len(turns) // 2)
    return [(turns[n].content, turns[n + 1].content) for n in range(0, len(turns), 2)], found


def sources(shown: list[tuple[str, str]]) -> list[str]:
    return [question.partition(": ")[2] for question, _ in shown]


def test_pairs_are_turns_in_the_words_of_the_system() -> None:
    shown, found = run(k=2, retriever="chrf")
    assert shown == [(f"Into English: {SIDES[n][0]}", SIDES[n][1]) for n in (1, 0)]
    assert (found.text, found.calls, found.outcome) == ("The old cat.", 1, "pairs shown: 2")
    assert found.steps["shown"] == "p1 p0"


def test_without_pairs_it_is_direct() -> None:
    asked, once = Asked([Rule(answer="x")]), Asked([Rule(answer="x")])
    found = decoded(made("icl", k=0), [SOURCE], SYSTEM, decoder_inputs(asked, exemplars=PAIRS))
    assert found == decoded(made("direct"), [SOURCE], SYSTEM, decoder_inputs(once))
    assert asked.steps == once.steps
    assert [one.name for one in made("icl", k=0).expected_steps()] == ["drafts"]


def test_words_in_common_choose() -> None:
    shown, _ = run(k=3, retriever="bm25", order="first")
    # "schläft auf dem Sofa" are four words, "Katze" and "Die" one each, the latter in the longer text.
    assert sources(shown) == [SIDES[n][0] for n in (0, 1, 3)]


def test_embeddings_choose_net_of_what_all_have_in_common() -> None:
    at = {SOURCE.text: 30.0, **{source: 20.0 * place for place, (source, _) in enumerate(SIDES)}}
    asked: list[tuple[list[str], str | None]] = []

    def embed(texts: list[str], embedder: str | None) -> Any:
        """Give angles in degrees on a narrow cone, as a language model's states are."""
        asked.append((list(texts), embedder))
        angles = np.deg2rad([at[text] for text in texts])
        cone = np.stack([0.1 * np.cos(angles), 0.1 * np.sin(angles), np.ones(len(texts))], axis=1)
        return (cone / np.linalg.norm(cone, axis=1, keepdims=True)).astype(np.float32)

    shown, found = run(k=5, retriever="embedding", order="first", embedder="org/model", embed=embed)
    # The mean of 0, 20, 40, 60 and 80 degrees is at 40: seen from there, 30 lies towards 20, and 0 behind that.
    assert sources(shown)[:2] == [SIDES[1][0], SIDES[0][0]]
    assert sources(shown)[-1] == SIDES[4][0]
    assert found.outcome == "pairs shown: 5"
    assert asked == [([source for source, _ in SIDES], "org/model"), ([SOURCE.text], "org/model")]
    assert run(pairs=PAIRS[:1], k=2, retriever="embedding", embed=embed)[1].outcome == "pairs shown: 1"
    assert run(pairs=[], k=2, retriever="embedding", embed=embed)[1].outcome == "pairs shown: 0"


def test_who_embeds_is_told_or_refused(tmp_path: Path) -> None:
    assert made("icl", retriever="embedding").reads_base
    assert not made("icl", retriever="embedding", embedder="org/model").reads_base
    assert not made("icl", retriever="embedding", k=0).reads_base
    assert not made("icl").reads_base
    with pytest.raises(UsageError, match="nothing embeds here; take another `retriever`"):
        run(retriever="embedding")
    with pytest.raises(ModelError, match=r"it has no config\.json"):
        made("icl", retriever="embedding", embedder=str(tmp_path)).check()
    made("icl", retriever="embedding", embedder="org/model").check()  # fetched once it is needed


def test_chance_depends_on_ids_seed_and_draw() -> None:
    first, _ = run(k=3)
    assert first == run(pairs=list(reversed(PAIRS)), k=3)[0]
    others = [run(k=3, seed=2), run(k=3, draw=1), run(k=3, source=Source("t/2", SOURCE.text, "de", "en"))]
    assert all(sources(other) != sources(first) for other, _ in others)
    drawn = {tuple(sources(run(k=1, draw=n)[0])) for n in range(60)}
    assert len(drawn) == len(PAIRS)


def test_the_most_similar_stands_where_it_is_told_to() -> None:
    last, first, drawn = (sources(run(k=5, retriever="chrf", order=one)[0]) for one in ("last", "first", "random"))
    assert last == first[::-1]
    assert sorted(drawn) == sorted(first)


def test_what_is_the_source_or_nearly_is_never_shown() -> None:
    near = Pair("near", "Die alte Katze schläft auf dem Sofa!!", "The answer.", "de", "en")
    nearly = Pair("nearly", "Die alte Katze schläft auf den Sofas.", "The answers.", "de", "en")
    same = Pair("same", SOURCE.text.upper(), "THE ANSWER", "de", "en")
    again = Pair("again", SIDES[0][0].lower(), "A dog.", "de", "en")
    for retriever in ("random", "bm25", "chrf"):
        shown, found = run(pairs=[near, nearly, same, again, *PAIRS], k=8, retriever=retriever, below=80)
        assert not [answer for _, answer in shown if "answer" in answer.lower()]
        assert found.outcome == "pairs shown: 5"  # of the two with one source the first
    twice = Pair("twice", "Es singen zwei Vögel, und zwar laut.", SIDES[4][1], "de", "en")
    assert run(pairs=[*PAIRS, twice], k=8)[1].outcome == "pairs shown: 5"  # of one translation, too: see `wrong`
    only, _ = run(pairs=[nearly], below=100)
    assert sources(only) == [nearly.source]
    assert run(pairs=[same, near], below=100)[0] == []


def test_a_pair_has_to_be_similar_enough() -> None:
    likeness = [sacrebleu.CHRF().sentence_score(one, [SOURCE.text]).score for one, _ in SIDES]
    first, second = sorted(likeness, reverse=True)[:2]
    assert likeness[0] == first  # what is as alike as it has to be is shown
    shown, found = run(k=5, retriever="chrf", at_least=(first + second) / 2)
    assert (sources(shown), found.outcome) == ([SIDES[0][0]], "pairs shown: 1")
    assert run(k=5, retriever="chrf", at_least=second - 0.01)[1].outcome == "pairs shown: 2"
    assert run(k=5, retriever="chrf", at_least=89)[1].outcome == "pairs shown: 0"


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    size = sum(len("".join(SIDES[n]).encode()) for n in (0, 1))
    fitting, found = run(k=3, retriever="chrf", max_bytes=size)
    assert sources(fitting) == [SIDES[1][0], SIDES[0][0]]
    assert found.outcome == "pairs shown: 2, too long: 1"
    fewer, found = run(k=3, retriever="chrf", max_bytes=len("".join(SIDES[1]).encode()))
    assert sources(fewer) == [SIDES[1][0]]  # what is more similar is too long
    assert found.outcome == "pairs shown: 1, too long: 2"
    assert run(k=3, retriever="chrf", max_bytes=1)[1].outcome == "pairs shown: 0, too long: 3"


def test_wrong_pairs_have_the_translation_of_another() -> None:
    for draw in range(10):
        shown, _ = run(k=4, control="wrong", draw=draw)
        right = [TARGET[source] for source in sources(shown)]
        assert sources(shown) == sources(run(k=4, draw=draw)[0])
        assert sorted(answer for _, answer in shown) == sorted(right)
        assert all(answer != own for (_, answer), own in zip(shown, right, strict=True))
    assert run(pairs=PAIRS[:1], control="wrong") == ([], run(pairs=[], control="wrong")[1])
    assert run(pairs=PAIRS[:1], control="wrong")[1].outcome == "pairs shown: 0"


def test_other_controls() -> None:
    shown, _ = run(k=3, control="words", order="random")
    assert sources(shown) == sources(run(k=3, order="random")[0])
    for source, (_, answer) in zip(sources(shown), shown, strict=True):
        assert sorted(answer.split()) == sorted(TARGET[source].split())
    assert any(answer != TARGET[source] for source, (_, answer) in zip(sources(shown), shown, strict=True))
    repeated, found = run(k=3, control="repeat", retriever="chrf")
    assert repeated == [(f"Into English: {SIDES[0][0]}", SIDES[0][1])] * 3
    assert found.outcome == "pairs shown: 3"
    backwards, _ = run(k=1, control="reversed", retriever="chrf")
    assert backwards == [(f"Into German: {SIDES[0][1]}", SIDES[0][0])]


def test_pairs_of_another_direction_are_shown_where_asked_for() -> None:
    shown, _ = run(k=2, languages=["en", "de"])
    assert all(question.startswith("Into German: ") for question, _ in shown)
    assert run(pairs=OTHER, k=2)[1].outcome == "pairs shown: 0"


def test_many_pairs_are_compared_by_characters_after_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exemplars, "COMPARED", 2)
    shown, _ = run(k=5, retriever="chrf", order="first")
    assert sources(shown) == [SIDES[0][0], SIDES[1][0]]
    drawn, found = run(k=5, pool=3)
    assert found.outcome == "pairs shown: 3"
    assert sources(drawn) != sources(run(k=5, pool=3, seed=4)[0])


def test_a_translation_memory_is_shown_in_both_directions(tmp_path: Path) -> None:
    memory = tmp_path / "memory.tsv"
    memory.write_text("de\ten\n" + "".join(f"{one}\t{other}\n" for one, other in SIDES), "utf-8")
    given = {"memory": str(memory), "languages": ["de", "en"], "retriever": "chrf", "k": 1}
    made("icl", **given).check()
    assert sources(run(pairs=[], **given)[0]) == [SIDES[0][0]]
    back, _ = run(pairs=[], source=Source("t/2", "The dog barks.", "en", "de"), **given)
    assert back == [(f"Into German: {SIDES[0][1]}", SIDES[0][0])]
    lacking = made("icl", **given).lacks(Surroundings(directions=[("en", "de"), ("zh", "en")]))
    assert lacking == "there are no pairs from Chinese into English to show; give a memory of these languages"
    memory.write_text("de\ten\n", "utf-8")
    with pytest.raises(LingraftError, match=r"memory\.tsv"):
        made("icl", **given).check()
    with pytest.raises(DataError, match="gone"):
        made("icl", **{**given, "memory": str(tmp_path / "gone.tsv")}).check()


def test_a_memory_is_sorted_once(tmp_path: Path) -> None:
    memory = tmp_path / "memory.tsv"
    memory.write_text("de\ten\n" + "".join(f"{one}\t{other}\n" for one, other in SIDES), "utf-8")
    decoder = made("icl", memory=str(memory), languages=["de", "en"], k=1)
    first = decoded(decoder, [SOURCE], SYSTEM, decoder_inputs(Asked([Rule(answer="x")])))
    memory.unlink()
    assert decoded(decoder, [SOURCE], SYSTEM, decoder_inputs(Asked([Rule(answer="x")]))) == first


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"at_least": 90, "retriever": "chrf"}, "no pair is shown; set `at_least` below `below`"),
        ({"at_least": 40}, "`at_least` does nothing without `retriever: chrf`"),
        ({"embedder": "org/model"}, "`embedder` does nothing without `retriever: embedding`"),
        ({"control": "wrong", "k": 1}, "one pair has none to give"),
        ({"memory": "m.tmx"}, "`memory` needs its `languages`"),
        ({"languages": ["de", "de"]}, "both 'de'"),
        ({"languages": ["german", "en"]}, "de"),
    ],
)
def test_mistakes_are_told(params: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as told:
        made("icl", **params)
    assert words in str(told.value)


def test_pairs_of_each_direction_are_needed() -> None:
    here = Surroundings(directions=[("de", "en"), ("en", "th")], exemplars=[("de", "en")])
    assert "no pairs from English into Thai to show" in made("icl").lacks(here)
    assert made("icl", languages=["de", "en"]).lacks(here) == made("icl", k=0).lacks(here) == ""
    assert "there are none here; give a `memory`" in made("icl").lacks(Surroundings())

"""The paragraph says what the scorecard holds, and cites what it names."""

from __future__ import annotations

import dataclasses
import re

import pytest

from fuller import enriched
from lingraft.evaluation.scorecard import Scorecard
from lingraft.methods.base import METHODS
from lingraft.reporting.citations import Citations, bibliography
from lingraft.reporting.contents import ReportContents, TrainedStage
from lingraft.reporting.origins import made
from lingraft.reporting.paper import TESTS, methods
from lingraft.suites.harness_papers import LM_EVAL, PAPERS
from lingraft.training.objectives import OBJECTIVES
from lingraft.training.tuners import TUNERS


def test_the_paragraph_holds_data_metrics_signatures_tests_and_seeds(contents: ReportContents) -> None:
    card = enriched(contents).scorecard
    text = methods(card).plain
    for row in card.translation:
        assert row.signature in text
    for expected in (
        "HuggingFaceTB/SmolLM2-135M-Instruct (SHA-256 of weights and tokenizer 5af571cbf074e6d2)",
        "radis (method radis (Wu et al., 2025) with lora (Hu et al., 2022))",
        "test.de-en (German to English, 240 segments)",
        "BLEU (Papineni et al., 2002; Post, 2018)",
        "chrF++ (Popović, 2017)",
        "1,000 resamples over items (Efron and Tibshirani, 1993)",
        "approximate randomisation (Riezler and Maxwell, 2005) and paired bootstrap (Koehn, 2004)",
        "(Holm, 1979)",
        "radis with 2 seeds",
        "weights multiplied by 0.5",
        "3 of 240 items of test.de-en (exact)",
        "refusal (Zou et al., 2023)",
    ):
        assert expected in text
    # A seed or scale of a system is no system of its own.
    assert "radis#2" not in text


def test_what_was_merged_is_said_with_what_it_was_made_of(contents: ReportContents) -> None:
    values = enriched(contents).scorecard.model_dump(by_alias=True)
    of = {"method": "linear", "cite_method": ["hu-2022-lora"], "merged": ["vanilla", "radis"]}
    values["systems"] += [
        {"name": "soup", **of},
        *({"name": f"line-{s:g}", **of, "group": "line", "swept": {"strength": s}} for s in (0.25, 0.5)),
    ]
    card = Scorecard.model_validate(values)
    text = methods(card).plain
    assert "soup was merged without training by linear (Hu et al., 2022) from vanilla and radis." in text
    assert "line was merged without training by linear (Hu et al., 2022) from vanilla and radis, with" in text
    assert "with strength 0.25 and strength 0.5." in text
    assert "(method linear" not in text
    assert [made(one) for one in card.systems[-2:]] == [
        "linear of vanilla, radis, strength 0.25",
        "linear of vanilla, radis, strength 0.5",
    ]


def test_training_upon_another_graft_is_said(contents: ReportContents) -> None:
    stage = TrainedStage("radis", "", {"kind": "lora"}, 2e-4, "cosine", 1.0, 5, 900, upon="0123456789abcdef" * 4)
    said = "with another adapter merged into the base (SHA-256 0123456789abcdef)"
    assert f"5 steps over 900 tokens, {said}." in methods(contents.scorecard, [stage]).plain
    assert said not in methods(contents.scorecard, [dataclasses.replace(stage, upon="")]).plain


def test_what_was_not_done_is_not_said(contents: ReportContents) -> None:
    text = methods(contents.scorecard).plain
    for absent in ("Holm", "seeds", "multiplied", "overlap", "randomisation"):
        assert absent not in text
    values = contents.scorecard.model_dump(by_alias=True) | {"translation": [], "general": [], "versions": {}}
    values["systems"] = values["systems"][:1]
    bare = methods(Scorecard.model_validate(values))
    assert bare.plain.count(".") == 1
    assert bare.bibtex == ""


def test_latex_escapes_names_and_every_citation_has_its_entry(contents: ReportContents) -> None:
    values = enriched(contents).scorecard.model_dump(by_alias=True)
    values["base"]["id"] = r"me/100%_odd{model}\input{x}$~^&# [@post-2018-call] <b>"
    written = methods(Scorecard.model_validate(values))
    assert r"me/100\%\_odd\{model\}\textbackslash{}input\{x\}\$\textasciitilde{}\textasciicircum{}\&\#" in written.latex
    cited = {key for found in re.findall(r"~\\citep\{([^}]+)\}", written.latex) for key in found.split(",")}
    entries = set(re.findall(r"^@\w+\{([^,]+),", written.bibtex, re.MULTILINE))
    assert cited == entries
    assert "post-2018-call" in cited  # for BLEU, not for the name above
    assert written.latex.count(r"\citep{post-2018-call}") == 0
    assert written.bibtex.count("{") == written.bibtex.count("}")


@pytest.mark.parametrize(
    ("direction", "shown"), [("pt-BR-en", "pt-BR-en"), ("de-en", "German to English"), ("x-y", "x-y")]
)
def test_directions_with_regions_are_left_as_they_are(contents: ReportContents, direction: str, shown: str) -> None:
    values = contents.scorecard.model_dump(by_alias=True)
    values["translation"] = [row | {"direction": direction} for row in values["translation"][:1]]
    assert f"test.de-en ({shown}, 240 segments)" in methods(Scorecard.model_validate(values)).plain


def test_every_known_key_is_in_the_bibliography_with_author_and_year() -> None:
    entries = [registry.get(name) for registry in (METHODS, TUNERS, OBJECTIVES) for name in registry]
    declared = {key for entry in entries for key in entry.cite if not key.startswith(("@", "https://"))}
    assert {*declared, *TESTS.values(), *PAPERS.values(), LM_EVAL} <= set(bibliography())
    cited = Citations()
    for key in bibliography():
        assert re.fullmatch(r"[^\W\d_][^{}\\]*, (19|20)\d\d", cited.shown(key)), key
    assert cited.shown("ponti-2020-xcopa") == "Ponti et al., 2020"


@pytest.mark.parametrize(
    ("metric", "signature", "cited"),
    [
        ("comet", "model:Unbabel/wmt22-comet-da|package:2.2.7", "Rei et al., 2022"),
        ("comet", "model:Unbabel/XCOMET-XL", "Guerreiro et al., 2024"),
        ("kiwi", "comet|model:Unbabel/wmt22-cometkiwi-da", "Rei et al., 2022"),
        ("spbleu", "tok:flores200", "Goyal et al., 2022; Post, 2018"),
    ],
)
def test_neural_metrics_are_cited_by_their_model(
    contents: ReportContents, metric: str, signature: str, cited: str
) -> None:
    values = contents.scorecard.model_dump(by_alias=True)
    values["translation"] = [row | {"metric": metric, "signature": signature} for row in values["translation"][:1]]
    assert f" ({cited})" in methods(Scorecard.model_validate(values)).plain


EAFT = {"eaft (top k 20)": ["diao-2026-eaft"]}


def test_pairs_rank_rate_epochs_and_steps_are_said(contents: ReportContents) -> None:
    """What a reviewer asks first; seeds of a system are trained like it and not repeated."""
    lora = {"kind": "lora", "rank": 16, "alpha": None, "dropout": 0.05}
    stages = [
        TrainedStage("vanilla", "", lora, 5e-4, "cosine", 1.0, 15, 14207),
        TrainedStage("radis", "text", {"kind": "full"}, 2e-5, "linear", 2.0, 1184, 38778012, EAFT),
        TrainedStage("radis#2", "", lora, 5e-4, "cosine", 1.0, 15, 14207),
    ]
    text = methods(enriched(contents).scorecard, stages, 113386).plain
    assert (
        "Training data: 113,386 pairs, each direction counted. Training of vanilla: lora (rank 16, dropout 0.05), "
        in text
    )
    assert "learning rate 0.0005 (cosine), 1 epoch, 15 steps over 14,207 tokens." in text
    assert (
        "Training of radis, stage text: full, learning rate 2e-05 (linear), 2 epochs, 1,184 steps over 38,778,012 "
        in text
    )
    assert "tokens, objective eaft (top k 20) (Diao et al., 2026)." in text
    assert "radis#2" not in text
    assert "Training" not in methods(contents.scorecard).plain.replace("Training was", "")

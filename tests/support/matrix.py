"""What Lingraft does with each family of models; `python tests/matrix.py [family ...]` prints the table of the docs.

Truth is the library's: `model(input_ids, labels).loss` of each row alone, in eager attention where a family has caps
that its other attention leaves out; plain PEFT for the graft; `model.generate` for one prompt at a time.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import logging

from builders import tiny_tokenizer
from families import build, families
from lingraft.core.errors import LingraftError
from lingraft.data.records import Request
from lingraft.engines.library_decoder import LibraryDecoder
from lingraft.engines.slot_decoder import SlotDecoder
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.adapter import take_off
from lingraft.models.architectures import make_attention_exact
from lingraft.models.files import ModelFiles
from lingraft.models.loading import LoadedModel
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered
from lingraft.training.settings import TrainSettings
from lingraft.training.span_trainer import save_adapter
from lingraft.training.targets import adapted_share
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners.lora import LoraTuner
from models_support import request

TEXTS = ("Guten Tag!", "Das Wetter ist heute schön, deshalb gehen wir zum alten Hafen.", "x", "12 " * 9)
NEW_TOKENS = 6
WAYS: tuple[dict[str, Any], ...] = ({}, {"batching": "padded", "kernels": "plain"})


def rows() -> list[Rendered]:
    """Return rows of several lengths, all of whose tokens but the first are learnt."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(3, 600, (length,), generator=generator).tolist() for length in (7, 19, 12, 15)]
    return [
        Rendered(f"row-{k}", tuple(ids), (0.0, *[1.0] * (len(ids) - 1)), (0,) * len(ids), ("ce",), ("text",))
        for k, ids in enumerate(drawn)
    ]


@dataclass
class Found:
    """What a family did.

    Attributes:
        refused: the sentence, empty where it trains.
        packed: how rows were trained together. share: of the matrices that are adapted.
        loss, truth: of the first step, by `WAYS`, and the library's.
        graft, plain: loss with the trained adapter, here and in plain PEFT.
        off_exact: whether the logits with the adapter off are the base's. unchanged: whether the base's weights are.
        written, right: prompts answered, and as the library answers each alone. together: how.
    """

    family: str
    refused: str = ""
    packed: bool = False
    share: float = 0.0
    loss: list[float] = field(default_factory=list)
    truth: float = 0.0
    graft: float = 0.0
    plain: float = 0.0
    off_exact: bool = False
    unchanged: bool = False
    written: int = 0
    right: int = 0
    together: str = ""

    @property
    def wrong(self) -> list[str]:
        """What is not as the library has it."""
        near = 2e-4 * max(1.0, abs(self.truth))
        found = {
            "loss": all(abs(loss - self.truth) < near for loss in self.loss),
            "graft in plain PEFT": abs(self.graft - self.plain) < near,
            "adapter off": self.off_exact,
            "base weights": self.unchanged,
            "greedy": self.right == self.written,
        }
        return [] if self.refused else [name for name, holds in found.items() if not holds]

    def line(self) -> str:
        """Return the family's row of the table."""
        if self.refused:
            return f"| {self.family} | refused: {self.refused} | | | |"
        rows = "packed" if self.packed else "padded"
        outcome = "trains" if not self.wrong else "trains; differs: " + ", ".join(self.wrong)
        return f"| {self.family} | {outcome} | {rows} | {self.together} | {self.share:.0%} |"


def mean_loss(model: Any, examples: Iterable[Rendered]) -> float:
    """Return the library's own loss, each row alone, over all tokens that are learnt."""
    total, tokens = 0.0, 0
    for row in examples:
        ids = torch.tensor([row.input_ids])
        with torch.no_grad():
            total += model(input_ids=ids, labels=ids, use_cache=False).loss.item() * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    return total / tokens


def trained(model: PreTrainedModel, work: Path, **changes: Any) -> TrainResult:
    """Train one step."""
    values = {"tokens_per_step": 10_000, "precision": "fp32", "learning_rate": 0.02, **changes}
    tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=0))
    return train(model, rows(), TrainSettings.model_validate(values), tuner, pad_id=0, work_dir=work, seed=1)


def tried(family: str) -> Found:
    """Train a tiny model of a family, and let it write."""
    found, model = Found(family), build(family)
    make_attention_exact(model)
    model.requires_grad_(False)  # as beside an adapter: products of weights that need gradients are rounded otherwise
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found.truth = mean_loss(model, rows())
    ids = torch.tensor([rows()[0].input_ids])
    with torch.no_grad():
        base = model(input_ids=ids, use_cache=False).logits
    with tempfile.TemporaryDirectory() as folder:
        for number, changes in enumerate(WAYS):
            try:
                result = trained(model, Path(folder) / str(number), **changes)
            except LingraftError as error:
                found.refused = str(error)
                return found
            found.loss.append(result.log[0].loss)
            if number == 0:
                found.packed, found.share = result.packed, adapted_share(result.model)
                found.graft = mean_loss(result.model, rows())
                with result.model.disable_adapter(), torch.no_grad():
                    found.off_exact = torch.equal(result.model(input_ids=ids, use_cache=False).logits, base)
                save_adapter(result.model, Path(folder) / "graft")
            take_off(result.model)
        after = model.state_dict()
        found.unchanged = after.keys() == before.keys() and all(torch.equal(after[k], w) for k, w in before.items())
        fresh = build(family)
        make_attention_exact(fresh)
        found.plain = mean_loss(PeftModel.from_pretrained(fresh, Path(folder) / "graft").eval(), rows())
    _write(found, model)
    return found


def _write(found: Found, model: PreTrainedModel) -> None:
    renderer = Renderer(tiny_tokenizer())
    engine = TransformersEngine(LoadedModel(ModelFiles("tiny", Path("tiny"), "0" * 64), model, renderer))
    asked = [request(str(k), text, max_new_tokens=NEW_TOKENS) for k, text in enumerate(TEXTS)]
    answers = {answer.id: list(answer.token_ids) for answer in engine.generate(asked)}
    found.written = len(asked)
    found.right = sum(answers[each.id] == _alone(model, renderer, each) for each in asked)
    decoder = engine._decoder(100)
    assert isinstance(decoder, (SlotDecoder, LibraryDecoder))
    found.together = "side by side" if isinstance(decoder, SlotDecoder) else decoder._way()


def _alone(model: Any, renderer: Renderer, asked: Request) -> Sequence[int]:
    """Return what the library writes for one prompt, without the token that ends it."""
    prompt = renderer.prompt_ids(asked.messages, asked.prefill).ids
    settings = GenerationConfig(
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=list(renderer.end_ids),
        pad_token_id=renderer.pad_id,
        use_cache=True,
    )
    ids = torch.tensor([prompt])
    output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    written = [int(token) for token in output[0, len(prompt) :]]
    return written[:-1] if written and written[-1] in renderer.end_ids else written


def main(names: Sequence[str]) -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    print("| Family | | Rows in training | Rows in writing | Adapted |\n|---|---|---|---|---|", flush=True)
    for name in names or families():
        try:
            print(tried(name).line(), flush=True)
        except Exception as error:  # a table that ends at the first crash tells little
            print(f"| {name} | CRASH {type(error).__name__}: {str(error)[:150]} | | | |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

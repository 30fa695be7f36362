"""What lm-eval's tasks ask, and how answers are scored.

lm-eval stays the judge of both. Its tasks are built once; what they ask is *recorded*, answered with everything else a
run asks, and *replayed*: `lm_eval.evaluate` runs once for each system with a model that knows the answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError
from lm_eval import evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, TemplateLM
from lm_eval.api.registry import get_aggregation
from lm_eval.api.task import Task
from lm_eval.models.utils import has_bos_prefix, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from lingraft.core.errors import DataError
from lingraft.core.hashing import content_hash
from lingraft.data.records import Continuation, Generation, Likelihood, Message, Request, Sampling
from lingraft.rendering.renderer import Renderer
from lingraft.suites.harness_loading import Entry, quietly

FEWSHOT_SEED = 1234
"""lm-eval's own default."""
LONGEST_ANSWER = 256
"""Of answers whose task does not say: lm-eval's own default, in tokens."""
Call = tuple[Any, ...]


class _Recorder(TemplateLM):
    """Notes what is asked, as lm-eval's `hf` back end would ask it.

    Args:
        renderer: of the base's tokenizer.
        context_tokens: longest sequence of the base.
        seed: for answers that are drawn.
    """

    def __init__(self, renderer: Renderer, context_tokens: int, seed: int) -> None:
        super().__init__()
        self.renderer, self.tokenizer = renderer, renderer.tokenizer
        self._context_tokens, self._seed = context_tokens, seed
        self._encoded: dict[str, list[int]] = {}
        self._conversations: dict[str, tuple[list[dict[str, str]], bool]] = {}
        self.continuations: dict[str, Continuation] = {}
        self.requests: dict[str, Request] = {}
        self.ids: dict[Call, list[str]] = {}
        """What each call was turned into."""

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Encode as `HFLM.tok_encode`: with the tokenizer's own special tokens, BOS at most once."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        if add_special_tokens is not None:
            return list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens))
        if string not in self._encoded:
            self._encoded[string] = list(self.tokenizer.encode(string))
        return self._encoded[string]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a conversation and remember it, so that it can be asked as messages."""
        roles = [message["role"] for message in chat_history]
        try:
            text = self._render(chat_history, add_generation_prompt)
            lost = [roles[number] for number in self.renderer.template.leaves_out(roles)]
        except TemplateError:  # as `HFLM`: some templates know no system message
            lost = ["system"]
        if "system" in lost:
            chat_history = [message for message in chat_history if message["role"] != "system"]
            text = self._render(chat_history, add_generation_prompt)
        self._conversations[text] = (chat_history, add_generation_prompt)
        return text

    def _render(self, messages: list[dict[str, str]], opened: bool) -> str:
        turns = [Message(turn["role"], turn["content"]) for turn in messages]
        return self.renderer.template.apply(turns, add_generation_prompt=opened, continue_final_message=not opened)

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        for call, context, continuation in requests:
            id_ = content_hash([context, continuation])[:16]
            self.continuations[id_] = Continuation(id_, tuple(context), tuple(continuation))
            if call is not None:
                self.ids["loglikelihood", *call] = [id_]
        return []

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        for request in requests:
            (text,) = request.args
            windows = [
                make_disjoint_window(window)
                for window in get_rolling_token_windows(
                    token_list=self.tok_encode(text),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self._context_tokens,
                    context_len=1,
                )
            ]
            self._loglikelihood_tokens([(None, *window) for window in windows])
            self.ids["loglikelihood_rolling", text] = [content_hash(list(window))[:16] for window in windows]
        return []

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        times: dict[str, int] = {}
        for request in requests:
            prompt, kwargs = request.args
            call = _written_call(request, times)
            how, _ = self.sampling(request.task_name, kwargs)
            id_ = content_hash([*call, how.to_dict()])[:16]
            self.ids[call] = [id_]
            if prompt not in self._conversations:
                ids = tuple(self._prompt_ids(prompt))
                self.requests[id_] = Request(id_, (Message("user", prompt),), how, prompt_ids=ids)
                continue
            history, opened = self._conversations[prompt]
            prefill = "" if opened else history[-1]["content"]
            turns = history if opened else history[:-1]
            messages = tuple(Message(turn["role"], turn["content"]) for turn in turns)
            self.requests[id_] = Request(id_, messages, how, prefill)
        return []

    def _prompt_ids(self, prompt: str) -> list[int]:
        """Encode as `HFLM.tok_batch_encode`."""
        bos = has_bos_prefix(prompt, self.tokenizer.bos_token)
        return list(self.tokenizer.encode(prompt, add_special_tokens=False)) if bos else self.tok_encode(prompt)

    def sampling(self, task: str | None, kwargs: Mapping[str, Any]) -> tuple[Sampling, list[str]]:
        """Return how to decode, and the strings at which an answer ends."""
        wanted: dict[str, Any] = dict(normalize_gen_kwargs(dict(kwargs), LONGEST_ANSWER))
        stops = [text for text in wanted.pop("until", []) if text]
        limit, temperature = wanted.pop("max_gen_toks"), float(wanted.pop("temperature", 0.0))
        sampled = bool(wanted.pop("do_sample", False))
        top_p = float(wanted.pop("top_p", 1.0))
        if wanted:
            raise DataError(
                f"task {task!r} decodes with {', '.join(map(str, sorted(wanted)))}, which the engines do not know; "
                f"choose another task"
            )
        if not sampled:
            temperature, top_p = 0.0, 1.0
        elif not temperature:
            temperature = 1.0
        return Sampling(limit, temperature, top_p, tuple(dict.fromkeys(stops)), self._seed), stops


def _written_call(request: Instance, times: dict[str, int]) -> Call:
    """Return what names an answer: prompt, decoding, and the how-manieth such answer it is where several are drawn."""
    prompt, kwargs = request.args
    decoding = json.dumps(kwargs, sort_keys=True, default=str)
    if not kwargs.get("do_sample") and not kwargs.get("temperature"):
        return "generate_until", prompt, decoding, 0
    key = f"{prompt}\0{decoding}"
    times[key] = times.get(key, 0) + 1
    return "generate_until", prompt, decoding, times[key] - 1


class _Replayer(LM):
    """Answers with what a system was measured to answer."""

    def __init__(
        self, recorder: _Recorder, generations: Mapping[str, Generation], likelihoods: Mapping[str, Likelihood]
    ) -> None:
        super().__init__()
        self._recorder, self._generations, self._likelihoods = recorder, generations, likelihoods

    @property
    def tokenizer_name(self) -> str:
        return self._recorder.tokenizer_name

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render as when the questions were recorded."""
        return self._recorder.apply_chat_template(chat_history, add_generation_prompt)

    def _of(self, call: Call, known: Mapping[str, Any]) -> list[Any]:
        try:
            return [known[id_] for id_ in self._recorder.ids[call]]
        except KeyError as error:
            raise DataError(f"lm-eval asks what was not asked before: {call[1]!r:.80}; run again") from error

    def loglikelihood(self, requests: Sequence[Instance], **_: Any) -> list[tuple[float, bool]]:
        found = [self._of(("loglikelihood", *request.args), self._likelihoods)[0] for request in requests]
        return [(one.logprob, one.greedy) for one in found]

    def loglikelihood_rolling(self, requests: Sequence[Instance], **_: Any) -> list[float]:
        calls = [("loglikelihood_rolling", *request.args) for request in requests]
        return [sum(one.logprob for one in self._of(call, self._likelihoods)) for call in calls]

    def generate_until(self, requests: Sequence[Instance], **_: Any) -> list[str]:
        times: dict[str, int] = {}
        tokenizer, out = self._recorder.tokenizer, []
        for request in requests:
            (written,) = self._of(_written_call(request, times), self._generations)
            stops = self._recorder.sampling(request.task_name, request.args[1])[1]
            if written.segments:  # the chain before the answer is not for lm-eval
                text = written.text
            else:
                text = str(tokenizer.decode(list(written.token_ids), skip_special_tokens=True))
            out.append(postprocess_generated_text(text, stops, None))
        return out


class Harness:
    """The tasks of a suite: what they ask, and their samples once it is answered.

    Args:
        entries: of `load_entries`.
        renderer: of the base's tokenizer.
        context_tokens: longest sequence of the base.
        limit: items of each task, from the first on.
        seed: for answers that are drawn.
    """

    def __init__(
        self, entries: Sequence[Entry], renderer: Renderer, context_tokens: int, *, limit: int | None, seed: int
    ) -> None:
        self.entries, self._limit = entries, limit
        self._recorder = _Recorder(renderer, context_tokens, seed)
        with quietly(seed):
            for entry in entries:
                self._seed(entry)
                asked: dict[str, list[Instance]] = {}
                for task in entry.tasks.values():
                    task.build_all_requests(
                        limit=limit,
                        rank=0,
                        world_size=1,
                        apply_chat_template=entry.templated,
                        fewshot_as_multiturn=entry.templated,
                        chat_template=self._recorder.apply_chat_template if entry.templated else None,
                        tokenizer_name=self._recorder.tokenizer_name,
                    )
                    for instance in task.instances:
                        asked.setdefault(instance.request_type, []).extend([instance] * instance.repeats)
                for kind, instances in asked.items():
                    extra = {} if kind == "generate_until" else {"disable_tqdm": True}
                    getattr(self._recorder, kind)(instances, **extra)

    @staticmethod
    def _seed(entry: Entry) -> None:
        for task in entry.tasks.values():
            task.set_fewshot_seed(seed=FEWSHOT_SEED)

    @property
    def requests(self) -> list[Request]:
        """What is to be written."""
        return list(self._recorder.requests.values())

    @property
    def continuations(self) -> list[Continuation]:
        """What is to be measured."""
        return list(self._recorder.continuations.values())

    def samples(
        self, entry: Entry, generations: Mapping[str, Generation], likelihoods: Mapping[str, Likelihood]
    ) -> dict[str, Any]:
        """Return lm-eval's results for one system, with `samples`.

        Args:
            entry: one of those that were asked.
            generations: request id -> answer.
            likelihoods: id of the continuation -> log-likelihood.
        """
        model = _Replayer(self._recorder, generations, likelihoods)
        with quietly():
            self._seed(entry)
            results = evaluate(
                lm=model,
                task_dict={"tasks": entry.tasks, "groups": {}, "group_map": {}},
                limit=self._limit,
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=entry.templated,
                fewshot_as_multiturn=entry.templated,
            )
        return dict(results)


def is_mean(aggregation: Any) -> bool:
    """Return whether a metric is the plain mean of its items' values."""
    return aggregation in (get_aggregation("mean"), get_aggregation("nanmean"))


def chance_of(task: Task, doc: Any, arguments: int) -> dict[str, float]:
    """Return what each metric of a multiple-choice item is on average when a choice is taken at random.

    By the task's own scoring, each choice being taken once: 1 / choices for a single right one.

    Args:
        task: of multiple choice.
        doc: the item, as the task keeps it.
        arguments: how many log-likelihoods the task asks for the item.
    """
    choices = len(task.doc_to_choice(doc))
    total: dict[str, float] = {}
    for taken in range(choices):
        results = [(0.0 if i == taken or i >= choices else -1e4, i == taken) for i in range(arguments)]
        for metric, value in task.process_results(doc, results).items():
            if isinstance(value, bool | int | float | np.number):
                total[metric] = total.get(metric, 0.0) + float(value) / choices
    return total

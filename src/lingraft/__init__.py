"""Lingraft teaches a chat LLM to translate without losing what it knows, and measures both."""

from lingraft.hub_kernels import keep_out

__version__ = "0.1.0"

keep_out()  # before anything imports transformers or bitsandbytes

"""Lingraft teaches a chat LLM to translate without losing what it knows, and measures both."""

from lingraft.core import __version__ as __version__

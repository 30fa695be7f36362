"""Lingraft teaches a chat LLM to translate without losing what it knows, and measures both."""

__version__ = "0.1.0"

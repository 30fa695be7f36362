"""Training methods: one small file each, which says what to ask the model and what to train on."""

from __future__ import annotations

from lingraft.methods.base import METHODS, Method, MethodInputs

__all__ = ["METHODS", "Method", "MethodInputs"]

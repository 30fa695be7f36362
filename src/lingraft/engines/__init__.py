"""Text generation back ends behind one interface."""

from __future__ import annotations

from lingraft.engines.base import ENGINES, Engine, EngineModel

__all__ = ["ENGINES", "Engine", "EngineModel"]

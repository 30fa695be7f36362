"""The programming languages that programs are translated between, and in which they can be run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

CodeLanguage = Literal["python", "java", "cpp", "javascript"]
NAMES: Mapping[str, str] = {"python": "Python", "java": "Java", "cpp": "C++", "javascript": "JavaScript"}
"""What they are called in a request and in reports."""

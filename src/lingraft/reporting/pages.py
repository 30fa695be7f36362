"""What all pages share: templates that escape by default, and the hash that lets a page run its own script only."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


def page_environment() -> Environment:
    """Return the environment of the templates: text is escaped, an unknown name is an error."""
    environment = Environment(
        # The page of `lingraft serve` marks differences by the same script.
        loader=ChoiceLoader(
            [PackageLoader("lingraft.reporting", "templates"), PackageLoader("lingraft.shipped", "page")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment


def breakable(text: str) -> Markup:
    """Return `text` as HTML that may break after each `+`: names of several methods have no spaces."""
    return Markup("+<wbr>").join(escape(part) for part in text.split("+"))


def script_hash(script: str) -> str:
    """Return the SHA-256 of a script as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")

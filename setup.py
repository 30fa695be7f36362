"""The description on a package index: README.md, whose links lead into the repository from there.

All else is in pyproject.toml.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def description() -> str:
    """Return README.md with absolute links: to pages of the repository, and to pictures as files."""
    repository = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
    text = (HERE / "README.md").read_text("utf-8")
    return re.sub(
        r"(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)\)",
        lambda link: f"{link[1]}{link[2]}({repository}/{'raw' if link[1] else 'blob'}/main/{link[3]})",
        text,
    )


if __name__ == "__main__":
    setup(long_description=description(), long_description_content_type="text/markdown")

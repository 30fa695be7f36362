"""What a metric says about itself: how it is called, which end is better, how it is written, what it is cited by.

A translation metric or a suite declares these facts, the rows of the scorecard carry them, and reports read them there:
nothing else knows a metric by its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"] | None

ROLES = {
    "": "shown in the tables, and nowhere else",
    "headline": "the metric of the gain, unless another one is asked for",
    "off_target": "% of translations in another language than asked for; in the summary, and among the errors by kind",
    "copied_source": "% of translations that copy the source, among the errors by kind",
    "fault": "% of segments with another error, among the errors by kind",
    "length": "length in units of the reference's, drawn around 1",
    "divergence": "distance from the base's distributions; in the summary",
    "rule": "% of items of which a rule says something, drawn beside a judge's verdicts on the same items",
    "verdict": "% of items of which a judge says something, drawn beside the rule",
    "step": "one step of answers given in several; a table sets the steps side by side",
    "step_tokens": "tokens of one step, in the same table",
}
"""Places where a report shows one metric apart from the others, and what belongs there."""

_KEY = re.compile(r"[A-Za-z0-9][\w:.+/-]*")
_BIBTEX = re.compile(r"\s*@\w+\s*\{\s*[A-Za-z0-9][\w:.+/-]*\s*,.*\}\s*", re.DOTALL)
_URL = re.compile(r"https?://[^\s{}\\]+")


MAX_DECIMALS = 10
MAX_CITED = 5000
"""Characters of a citation."""


def citable(source: str) -> bool:
    """Whether a text is a key of a bibliography, a BibTeX entry or an address of the web."""
    return len(source) <= MAX_CITED and any(form.fullmatch(source) for form in (_KEY, _URL, _BIBTEX))


@dataclass(frozen=True, kw_only=True)
class MetricFacts:
    """How a metric is shown and compared.

    Attributes:
        label: what tables call it, without its unit; empty: its name.
        better: which end is better; None: neither, it describes.
        decimals: with which it is written; None: the fewer, the larger the values are.
        unit: of the values as they are shown, such as "%".
        cite: keys of `reporting/references.bib`, whole BibTeX entries, or addresses of the web.
        retains: whether it counts for retention (of a suite) and in the correction for the number of comparisons.
        role: one of `ROLES`.

    Raises:
        ValueError: unknown role, decimals that cannot be, or a citation that is none of the three.
    """

    label: str = ""
    better: Better = "higher"
    decimals: int | None = None
    unit: str = ""
    cite: tuple[str, ...] = ()
    retains: bool = True
    role: str = ""

    def __post_init__(self) -> None:
        for name in ("label", "unit"):
            object.__setattr__(self, name, " ".join(getattr(self, name).split()))
        if self.role not in ROLES:
            raise ValueError(f"there is no role {self.role!r}; give one of {', '.join(filter(None, ROLES))}, or none")
        if self.decimals is not None and not 0 <= self.decimals <= MAX_DECIMALS:
            raise ValueError(f"decimals: {self.decimals} cannot be shown; give 0 to {MAX_DECIMALS}")
        for source in self.cite:
            if not citable(source):
                raise ValueError(
                    f"cite: {source[:60]!r} is no key of references.bib, no BibTeX entry and no address of the web"
                )

    @property
    def title(self) -> str:
        """The label with the unit."""
        if self.unit == "%":
            return f"{self.label} %"
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def share(self) -> str:
        """What stands beside values on an axis of percents: the title, without a unit of percent."""
        return self.label if self.unit == "%" else self.title

    @property
    def direction(self) -> str:
        """ "higher is better", "lower is better", or nothing."""
        return f"{self.better} is better" if self.better else ""

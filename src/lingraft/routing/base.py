"""The interface of a decider: one file, registered by name in `DECIDERS`.

A decider says of each request whether the graft or the base answers it. It is asked before either writes anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lingraft.core.registry import Registry
from lingraft.core.validation import Settings
from lingraft.data.records import Pair, Prompt, Request
from lingraft.translation.wording import DEFAULT

if TYPE_CHECKING:
    import numpy as np

Route = Literal["graft", "base"]
GRAFT: Route = "graft"
BASE: Route = "base"
NO_ROUTE = (
    "it has a vocabulary or a chain of thought of its own, with which it answers everything: its base cannot answer "
    "from the same model"
)
"""Why some grafts cannot be routed to."""


@dataclass(frozen=True, kw_only=True)
class RouteInputs:
    """What a decider may look at beside the requests.

    Attributes:
        wordings: in which the graft was trained to be asked for translations.
        states: gives for requests (n) what the base makes of their prompts, float32 (n, features); see
            `lingraft.routing.states`. It costs one pass of the base over each prompt.
    """

    wordings: Sequence[str] = (DEFAULT,)
    states: Callable[[Sequence[Request]], np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What a decider may learn from; nothing that routing or anything else is measured on.

    Attributes:
        pairs: of training.
        prompts: of those for replay.
        seed: of what is drawn.
    """

    pairs: Sequence[Pair]
    prompts: Sequence[Prompt]
    seed: int = 0

    @property
    def general(self) -> list[Prompt]:
        """The prompts that ask for no translation."""
        return [prompt for prompt in self.prompts if not prompt.task]

    @property
    def instructed(self) -> list[Prompt]:
        """Those that ask for one."""
        return [prompt for prompt in self.prompts if prompt.task == "translation"]


class Decider(ABC):
    """Base of all deciders.

    Attributes:
        name: registered name.
        summary: one line for `lingraft list deciders`.
        paper: where the rule comes from.
        cite: keys of the bibliography.
        version: grows when the same requests may get other routes.
        learns: whether it has to learn from a run's requests before it can decide.
        reads: whether it looks at the base's states.
        guesses: whether it decides by what is asked, so that its errors can be measured; else the caller says it.
        Params: typed parameters.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    cite: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    learns: ClassVar[bool] = False
    reads: ClassVar[bool] = False
    guesses: ClassVar[bool] = True

    class Params(Settings):
        """Every parameter has a default and a description."""

    def __init__(self, params: Any) -> None:
        self.params = params

    @abstractmethod
    def decide(self, requests: Sequence[Request], inputs: RouteInputs) -> list[Route]:
        """Return who answers each request, in their order.

        Args:
            requests: with conversations; one without messages is never a request for a translation.
            inputs: see there.
        """

    def learn(self, lessons: Lessons, inputs: RouteInputs) -> dict[str, Any]:
        """Learn to decide, and return figures of it for the report, ready for JSON.

        Raises:
            DataError: there is too little to learn from.
        """
        return {}

    def learnt(self) -> Mapping[str, np.ndarray]:
        """Return what was learnt, as arrays by name; nothing where it does not learn."""
        return {}

    def remember(self, learnt: Mapping[str, np.ndarray]) -> None:  # noqa: B027  (most have nothing to remember)
        """Take what was learnt before, as `learnt` gives it.

        Raises:
            ValueError: an array is missing, of another shape, or holds what is no number.
        """


DECIDERS: Registry[type[Decider]] = Registry(
    "decider",
    {
        "form": "lingraft.routing.form:FormDecider",
        "classifier": "lingraft.routing.classifier:ClassifierDecider",
        "caller": "lingraft.routing.caller:CallerDecider",
    },
)

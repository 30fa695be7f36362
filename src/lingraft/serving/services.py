"""What translates where a server has several grafts: the one that was trained for a direction, or the one that a client
names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from lingraft.serving.languages import ServedLanguages
from lingraft.serving.request import ApiError

UNSERVED = "language_not_supported"
EACH = "texts of one language at a time, or name a graft as `lingraft.model`"
SURE = 0.5
"""From here on a text's language is told by the text alone."""


class Asked(Protocol):
    """A job: into which language, and from which, "" where that is to be told by `sample`, or by those of its texts
    that are long enough for it."""

    @property
    def source(self) -> str: ...

    @property
    def target(self) -> str: ...

    @property
    def sample(self) -> str: ...

    @property
    def samples(self) -> Sequence[str]: ...


J = TypeVar("J", bound=Asked, contravariant=True)
P = TypeVar("P")


class Service(Protocol[J, P]):
    """Translates texts, or documents; see `TranslationService` and `DocumentService`."""

    @property
    def languages(self) -> ServedLanguages: ...

    def prepare(self, job: J) -> P: ...

    def work(self, prepared: P, left: Callable[[], bool] = ...) -> Generator[Any, None, None]: ...


class Services(Generic[J, P]):
    """The services of all grafts of a server, by name; the first one is asked where nothing speaks for another. A base
    beside them, which would take any language, is asked where it is named.

    Attributes:
        languages: of all of them, such a base aside.
    """

    def __init__(self, by_name: Mapping[str, Service[J, P]]) -> None:
        self._by_name = dict(by_name)
        first, *others = self._by_name.values()
        self._unnamed = [first, *(one for one in others if not one.languages.any)]
        self.languages = ServedLanguages.together([one.languages for one in self._unnamed])

    def prepare(self, job: J, model: str = "") -> tuple[P, Callable[[Callable[[], bool]], Generator[Any, None, None]]]:
        """Return a job that is ready for the model, and what does it; it takes no model, and any thread.

        Args:
            job: that is asked for.
            model: name of the graft that is to do it; "" for the first that was trained for the direction.

        Raises:
            ApiError: no such graft, a direction that none was trained for, or as the service's `prepare`.
        """
        service = self._named(model) if model else self._trained_for(job)
        prepared = service.prepare(job)
        return prepared, partial(service.work, prepared)

    def _named(self, model: str) -> Service[J, P]:
        if model not in self._by_name:
            known = ", ".join(map(repr, self._by_name))
            message = f"the model {model[:80]!r} does not translate here; this server has {known}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return self._by_name[model]

    def _trained_for(self, job: J) -> Service[J, P]:
        first, *others = self._unnamed
        if not others:
            return first
        source = job.source or self._source(job)
        return self._serving(source, job.target)

    def _source(self, job: J) -> str:
        """Return the language of a job's texts.

        Raises:
            ApiError: they are of several, for which different grafts were trained.
        """
        found = [self.languages.told(one, job.target) for one in job.samples]
        known = list(dict.fromkeys(language for language, certain in found if certain > SURE))
        if len({id(self._serving(one, job.target)) for one in known}) > 1:
            names = " and ".join(known)
            raise ApiError(400, f"the texts are in {names}, for which this server has different grafts; send {EACH}")
        return known[0] if known else self.languages.told(job.sample, job.target)[0]

    def _serving(self, source: str, target: str) -> Service[J, P]:
        """Return the first service that was trained for a direction.

        Raises:
            ApiError: none was.
        """
        for one in self._unnamed:
            try:
                one.languages.direction(source, target)
            except ApiError as error:
                if error.code != UNSERVED:
                    raise
            else:
                return one
        self.languages.direction(source, target)  # says which there are
        return self._unnamed[0]

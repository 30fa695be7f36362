"""The languages of translation endpoints: those that a graft was trained for, any of a base, or those of programs."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.conversation.directions import program_direction
from lingraft.core.code_languages import NAMES
from lingraft.core.errors import UsageError
from lingraft.core.tasks import Task
from lingraft.core.toolchains import missing_toolchain
from lingraft.language.codes import COMMON, language, match_language, same_language
from lingraft.language.identification import identifier_label, identify, identify_among
from lingraft.language.measures import letter_count
from lingraft.models.graft import GraftInfo
from lingraft.serving.request import ApiError

IDENTIFIED = 2000
"""Characters of a text by which its language is told."""


def runnable() -> list[str]:
    """Return the programming languages that can be run on this machine."""
    return [code for code in NAMES if not missing_toolchain(code)]


def no_direction(message: str) -> ApiError:
    """Return the refusal of a language, or of two."""
    return ApiError(400, message, code="language_not_supported")


class ServedLanguages:
    """What is translated from and into; it may be asked in any thread.

    Args:
        info: of the graft; None for a base, which takes any language.
        task: what texts become: of programs the languages are those that run here.

    Attributes:
        directions: that the graft was trained for; none of a base.
        any: whether any language is translated, as by a base.
        task: as given.
    """

    def __init__(self, info: GraftInfo | None, task: Task) -> None:
        self.directions = list(dict.fromkeys((one.source, one.target) for one in info.directions)) if info else []
        self.any, self.task = info is None, task

    @classmethod
    def together(cls, several: Sequence[ServedLanguages]) -> ServedLanguages:
        """Return the languages of several grafts, or bases, of one task."""
        first, *others = several
        if not others:
            return first
        found = cls(None, first.task)
        found.directions = list(dict.fromkeys(pair for one in several for pair in one.directions))
        found.any = any(one.any for one in several)
        return found

    def sources(self) -> list[str]:
        """Return the codes of the languages that are translated from."""
        if self.task == "code":
            return runnable()
        return list(COMMON) if self.any else list(dict.fromkeys(one for one, _ in self.directions))

    def targets(self, source: str = "") -> list[str]:
        """Return the codes of the languages that are translated into, from one or from any."""
        if self.task == "code":
            return [code for code in runnable() if code != source]
        if self.any:
            return [code for code in COMMON if code != source]
        return list(dict.fromkeys(two for one, two in self.directions if source in ("", one)))

    def detect(self, text: str) -> tuple[str, float]:
        """Return the language of a text, of those that are translated from or into and the most common others, and how
        sure that is, from 0 to 1; "" where no letter tells it.

        Raises:
            ApiError: programs are translated here.
        """
        if self.task == "code":
            raise ApiError(400, "the language of a program is not told here; name it", code="language_not_supported")
        if not letter_count(text):
            return "", 0.0
        return identify(text[:IDENTIFIED], [*self.sources(), *self.targets()])

    def direction(self, source: str, target: str) -> tuple[str, str]:
        """Return the codes by which the model is asked for a direction: those that a graft was trained with.

        Args:
            source: a language code, in any form.
            target: likewise.

        Raises:
            ApiError: no language, or a direction that is not served.
        """
        if self.task == "code":
            return self._program_direction(source, target)
        try:
            source, target = language(source), language(target)
            if self.any:
                if same_language(source, target) and source == target:
                    raise ApiError(400, f"source and target are the same, {source}", code="language_not_supported")
                return source, target
            found = [one for one in self.directions if same_language(one[0], source) and same_language(one[1], target)]
            if found:
                from_ = match_language([one[0] for one in found], source)
                into = match_language([one[1] for one in found if one[0] == from_], target)
                return str(from_), str(into)
        except UsageError as error:
            raise no_direction(str(error)) from error
        known = ", ".join(f"{one}-{two}" for one, two in self.directions) or "nothing"
        message = f"{source}-{target} is not translated here; what this server has was trained on {known}"
        raise no_direction(message)

    def _program_direction(self, source: str, target: str) -> tuple[str, str]:
        """Return the two programming languages of a request; see `direction`."""
        try:
            found = program_direction(source, target)
        except UsageError as error:
            raise no_direction(str(error)) from error
        if lacking := "; ".join(filter(None, map(missing_toolchain, found))):
            raise no_direction(f"{lacking} on the server")
        return found

    def told(self, text: str, target: str) -> tuple[str, float]:
        """Return the language of a text, of those that are translated into the target, and how sure that is."""
        try:
            into = language(target)
        except UsageError as error:
            raise no_direction(str(error)) from error
        found, certain = self.detect(text)
        if self.any:
            if found and not same_language(found, into):
                return found, certain
            return next(code for code in ("en", "de") if not same_language(code, into)), 0.0
        fits = list(dict.fromkeys(one for one, two in self.directions if same_language(two, into)))
        if near := next((code for code in fits if found and same_language(code, found)), ""):
            return near, certain
        known = [code for code in fits if identifier_label(code) is not None]
        if len(fits) > 1 and known and found:
            told = identify_among(text[:IDENTIFIED], known)
            return next((code for code in known if same_language(code, told)), known[0]), 0.0
        return (fits or self.sources())[0], 0.0

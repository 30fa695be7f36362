"""One base in memory that answers with either of several grafts, or as itself: whichever is put on.

A graft is put on once (`grafted`) and what then is another in the base's modules is noted: layers, parameters, buffers
and plain attributes. Changing from one to another puts such notes in place, which moves no weights: it takes
milliseconds, needs the memory of one base, and gives each the very layers that it has alone, whatever its kind
(low-rank updates, whole layers, rows of embeddings, single numbers, a vocabulary of its own).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from lingraft.models.graft import grafted
from lingraft.models.loading import LoadedModel
from lingraft.models.sparse_layer import sparse_layers

_Held = tuple[nn.Module, dict[str, Any], dict[str, dict[str, Any]]]
_CONTENTS = ("_modules", "_parameters", "_buffers")


class SideBySide:
    """Several systems on one base; one of them is on.

    Attributes:
        systems: name -> the model as that system sees it; it computes as that system while it is on, and not else.
    """

    def __init__(self, base: LoadedModel) -> None:
        self._base = base
        self.systems: dict[str, LoadedModel] = {}
        self._kept: dict[str, tuple[list[_Held], int | None]] = {}
        self._on = ""

    @classmethod
    @contextmanager
    def of(cls, base: LoadedModel, folders: Mapping[str, Path | None]) -> Iterator[SideBySide]:
        """Yield the systems for the time of the block; the base is as before afterwards.

        Args:
            base: without an adapter.
            folders: name -> folder of a graft; None: the base as it is. The first one is on.

        Raises:
            ModelError: as `grafted`.
        """
        found = cls(base)
        plain = found._noted()
        with ExitStack() as worn:
            for name, folder in folders.items():
                found.systems[name] = worn.enter_context(grafted(base, folder))
                found._kept[name] = found._noted()
                worn.callback(found._put, name)  # it is taken off as it was put on
                found._settle(name)
                _put_back(plain, base)
            try:
                found.put_on(next(iter(folders)))
                yield found
            finally:
                found._leave()
                _put_back(plain, base)

    def put_on(self, name: str) -> None:
        """Let a system answer from now on; no other may be in the middle of an answer."""
        if name != self._on:
            self._leave()
            self._put(name)

    def _put(self, name: str) -> None:
        _put_back(self._kept[name], self._base)
        self._on = name

    def _leave(self) -> None:
        """Note the system that is on as it is now: models keep things that grow with what they read."""
        if self._on:
            self._settle(self._on)
            self._kept[self._on] = self._noted()
            self._on = ""

    def _settle(self, name: str) -> None:
        """Take single changed numbers out of the base's weights, where they stand while their graft computes."""
        for layer in sparse_layers(self.systems[name].model).values():
            layer.unmerge()

    def _noted(self) -> tuple[list[_Held], int | None]:
        model: Any = self._base.model
        held = [
            (one, dict(vars(one)), {name: dict(getattr(one, name)) for name in _CONTENTS}) for one in model.modules()
        ]
        return held, getattr(model.config.get_text_config(), "vocab_size", None)


def _put_back(noted: tuple[list[_Held], int | None], base: LoadedModel) -> None:
    held, size = noted
    for module, attributes, contents in held:
        own = vars(module)
        own.clear()
        own.update(attributes)
        for name, items in contents.items():
            own[name].clear()
            own[name].update(items)
    model: Any = base.model
    if size is not None:
        model.config.get_text_config().vocab_size = size

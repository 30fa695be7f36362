"""What a server answers as: one graft or base, or several of them from one model in memory, each by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lingraft.conversation.opening import DEFAULT_MODEL, markers_in_use, open_model
from lingraft.core.errors import ModelError, UsageError
from lingraft.core.hub import commit_of
from lingraft.models.files import find_model
from lingraft.models.graft import (
    GraftInfo,
    find_base,
    find_graft,
    graft_renderer,
    is_exported,
    read_asking,
    read_info,
)
from lingraft.models.graft_names import hub_graft, locate_graft
from lingraft.models.loading import AskedModel, LoadedModel, ModelElsewhere, load_model, load_renderer
from lingraft.models.side_by_side import SideBySide
from lingraft.translation.markers import Markers

BASE = "base"
"""What the untouched base is called where it is served beside grafts."""


@dataclass(frozen=True)
class ServedSystem:
    """One of the systems that a server answers as.

    Attributes:
        name: by which clients ask for it.
        loaded: the model as this system sees it.
        markers: of a graft with a translation chain of thought; None of another.
        info: of a graft; None of a base.
        put_on: lets the model in memory answer as this system.
        folder: of a graft; None of a base, and of a graft and its base as one model.
    """

    name: str
    loaded: AskedModel
    markers: Markers | None
    info: GraftInfo | None
    put_on: Callable[[], None] = lambda: None
    folder: Path | None = None

    @property
    def in_memory(self) -> LoadedModel:
        """The model, where its weights are in this process."""
        return cast(LoadedModel, self.loaded)


def named_grafts(given: Sequence[str]) -> dict[str, Path]:
    """Return the grafts that are served beside another, by name.

    Args:
        given: folders of grafts or of their runs, or names of the hub, each with `NAME=` before it where its name is
            not to be its folder's, or its repository's.

    Raises:
        UsageError: two have the same name, or one has none.
        ModelError: one of the hub cannot be fetched.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, has_name, place = text.partition("=")
        named = has_name and not Path(text).exists()
        place = place if named else text
        if not place or (named and not name):
            raise UsageError(f"--beside {text!r}: name and folder are needed; give --beside NAME=FOLDER, or a folder")
        folder = locate_graft(place) if hub_graft(place) else Path(place)
        name = name if named else graft_name(folder)
        if not name or name in found:
            raise UsageError(
                f"--beside {text}: {name!r} names two models; give it another one, as --beside NAME=FOLDER"
            )
        found[name] = folder
    return found


@contextmanager
def open_systems(
    graft: Path | None, model: str | None, name: str, beside: Mapping[str, Path], *, with_base: bool
) -> Iterator[list[ServedSystem]]:
    """Yield the systems of a server, the one that answers where no name is given first.

    Args:
        graft: folder of the first one, or that of its run; None: the base, or a graft and its base as one model.
        model: the base, where it is not the one that the graft names.
        name: of the first one; "": that of its folder.
        beside: further grafts by name.
        with_base: whether the base itself is one of them.

    Raises:
        UsageError: two have the same name, or grafts are to be beside none.
        ModelError: a graft or its base cannot be used, or two are of different bases.
    """
    if graft is None:
        _refuse_beside(beside)
        with open_model(None, model) as (loaded, _):
            yield [ServedSystem(name or _model_name(loaded.files.name), loaded, None, _asking(model))]
        return
    named = _Named.of(graft, name, beside, with_base=with_base)
    first, folders, infos = named.names[0], named.folders, named.infos
    if len(named.names) == 1:
        with open_model(graft, model) as (loaded, markers):
            yield [ServedSystem(first, loaded, markers, infos[first], folder=folders[first])]
        return
    base = load_model(find_base(infos[first], folders[first], model))
    with SideBySide.of(base, {**folders, **dict.fromkeys(named.names[len(folders) :])}) as several:

        def system(one: str) -> ServedSystem:
            loaded, info, markers = several.systems[one], infos.get(one), None
            if info is not None:
                markers = markers_in_use(folders[one], info, loaded.renderer)
            return ServedSystem(one, loaded, markers, info, lambda: several.put_on(one), folders.get(one))

        yield [system(one) for one in named.names]


def systems_elsewhere(
    graft: Path | None, model: str | None, name: str, beside: Mapping[str, Path], *, with_base: bool
) -> list[ServedSystem]:
    """Return the systems of a server that has no weights in memory: an engine has them; see `open_systems`."""
    if graft is None:
        _refuse_beside(beside)
        files = find_model(model or DEFAULT_MODEL)
        loaded = ModelElsewhere.of(files, load_renderer(files))
        return [ServedSystem(name or _model_name(files.name), loaded, None, _asking(model))]
    named = _Named.of(graft, name, beside, with_base=with_base)
    first = named.names[0]
    files = find_base(named.infos[first], named.folders[first], model)
    found = []
    for one in named.names:
        folder, info = named.folders.get(one), named.infos.get(one)
        if folder is None or info is None:
            found.append(ServedSystem(one, ModelElsewhere.of(files, load_renderer(files)), None, None))
            continue
        loaded = ModelElsewhere.of(files, graft_renderer(files, folder))
        markers = markers_in_use(folder, info, loaded.renderer)
        found.append(ServedSystem(one, loaded, markers, info, folder=folder))
    return found


@dataclass(frozen=True)
class _Named:
    """Grafts of one base by their names, the first one first, and `BASE` behind them where it is served as well."""

    names: list[str]
    folders: dict[str, Path]
    infos: dict[str, GraftInfo]

    @classmethod
    def of(cls, graft: Path, name: str, beside: Mapping[str, Path], *, with_base: bool) -> _Named:
        """Return them; errors and arguments are those of `open_systems`."""
        first = name or graft_name(graft)
        names = [first, *beside, *([BASE] if with_base else ())]
        if twice := next((one for one in names if names.count(one) > 1), ""):
            raise UsageError(f"{twice!r} names two models; give them other names with --name and --beside NAME=FOLDER")
        folders = {first: find_graft(graft), **{one: find_graft(folder) for one, folder in beside.items()}}
        infos = {one: read_info(folder) for one, folder in folders.items()}
        for one, info in infos.items():
            if info.base_sha256 != infos[first].base_sha256:
                raise ModelError(
                    f"the grafts {folders[first]} and {folders[one]} were trained on different bases "
                    f"({infos[first].base_sha256[:12]} and {info.base_sha256[:12]}); give grafts of one base"
                )
        return cls(names, folders, infos)


def _refuse_beside(beside: Mapping[str, Path]) -> None:
    if beside:
        raise UsageError("--beside serves a graft beside another; give the first one as --graft")


def _asking(model: str | None) -> GraftInfo | None:
    """Return how a graft and its base as one model are asked; None of a base."""
    return read_asking(Path(model)) if model is not None and is_exported(Path(model)) else None


def graft_name(folder: Path) -> str:
    """Return the name of a graft's folder, that of its run where the folder is only called "graft", and of one of the
    hub that of its repository."""
    if repository := commit_of(folder):
        return repository.repository
    folder = folder.resolve()
    return folder.parent.name if folder.name == "graft" and folder.parent.name else folder.name


def _model_name(given: str) -> str:
    """Return a base's name without the path of its folder, which is nobody's business."""
    folder = Path(given).expanduser()
    return folder.resolve().name if folder.is_dir() or folder.is_absolute() else given

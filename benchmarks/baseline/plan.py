"""What a headline compares: a TOML file of searches and trainings, each a study with some keys changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aspk.errors import StudyError
from aspk.spec.study import StudySpec, changed, load_study_file
from aspk.util.files import safe_name
from aspk.util.passwords import shown
from aspk.util.shipped import read_toml
from benchmarks.baseline.selection import PICKS

_KEYS = ("study", "folder", "margin", "changes", "searches", "trainings")
_STARTS = ("inherited", "scratch")
_Tabled = Callable[[str, Mapping[str, Any], tuple[str, ...]], StudySpec]


@dataclass(frozen=True, kw_only=True)
class Search:
    """One search.

    Attributes:
        name: names its study and its networks.
        title: what tables call it.
        spec: the study that it runs.
        fixed: genes that keep the reference's value.
        select: which of its networks are trained, see :data:`benchmarks.baseline.selection.PICKS`.
    """

    name: str
    title: str
    spec: StudySpec
    fixed: tuple[str, ...]
    select: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Training:
    """One recipe that networks are trained with, all in the same way.

    Attributes:
        name: names its results.
        title: what tables call it.
        spec: the study; its ``retrain`` is the recipe.
        scratch: whether it starts from fresh weights instead of inherited ones.
        seeds: trainings of each network, at least 2.
        networks: names of the networks that it is for; empty is all.
    """

    name: str
    title: str
    spec: StudySpec
    scratch: bool
    seeds: int
    networks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A comparison, complete.

    Attributes:
        name: the file's name.
        study: the study that the searches and trainings change.
        folder: where everything goes.
        margin: accuracy that a network may lose, 0.01 is one point; see
            :func:`~benchmarks.baseline.selection.pick`.
        searches: what is searched; the first is the one that the others are compared with.
        trainings: how the selected networks are trained.
    """

    name: str
    study: StudySpec
    folder: Path
    margin: float
    searches: tuple[Search, ...]
    trainings: tuple[Training, ...]


def load_headline(source: str | Path, *, quick: bool = False) -> Headline:
    """Read a comparison from a TOML file, or by the name of a shipped one such as ``fashion_mnist``.

    Args:
        source: a path or a name.
        quick: tiny budgets in a folder of its own: whether everything runs, not what comes out.

    Raises:
        StudyError: the file is missing or not valid; the message names file, key and value.
    """
    path, data = read_toml(source, folder="benchmarks/baseline", kind="headline", error=StudyError)
    try:
        return _headline(path, data, quick)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None


def _headline(path: Path, data: Mapping[str, Any], quick: bool) -> Headline:
    _known(data, _KEYS, "")
    beside = path.parent / str(data.get("study", ""))
    source = str(beside) if beside.is_file() else data.get("study")
    if not isinstance(source, str):
        raise StudyError(f"study = {source!r}: expected a study file, or the name of a shipped one")
    margin = data.get("margin", 0.01)
    if not isinstance(margin, float) or not 0 < margin < 1:
        raise StudyError(f"margin = {margin!r}: expected a share between 0 and 1, 0.01 for one point")
    place = Path(str(data.get("folder", Path("runs") / f"headline-{safe_name(path.stem)}")))
    folder = place.with_name(f"{place.name}-quick") if quick else place
    weights = load_study_file(source).weights_file
    common = _table(data, "changes")

    def spec(name: str, table: Mapping[str, Any], own: tuple[str, ...]) -> StudySpec:
        changes = changed(common, {key: value for key, value in table.items() if key not in own})
        found = load_study_file(source, {**changes, "name": name})
        # In our folder, with the study's supernet.
        found = replace(found, folder=folder, storage=None, weights=weights)
        return _tiny(found) if quick else found

    searches = [_search(name, table, spec) for name, table in _tables(data, "searches").items()]
    trainings = [_training(name, table, spec, quick) for name, table in _tables(data, "trainings").items()]
    return Headline(
        name=path.stem,
        study=spec(path.stem, {}, ()),
        folder=folder,
        margin=margin,
        searches=tuple(searches),
        trainings=tuple(trainings),
    )


def _search(name: str, table: Mapping[str, Any], spec: _Tabled) -> Search:
    own = ("title", "fixed", "select")
    fixed, select = (_strings(table, key, f"searches.{name}") for key in ("fixed", "select"))
    for pick in select:
        if pick not in PICKS:
            raise StudyError(f"searches.{name}.select: {pick!r}: expected some of {', '.join(PICKS)}")
    title = str(table.get("title", name))
    return Search(name=name, title=title, spec=spec(name, table, own), fixed=fixed, select=select)


def _training(name: str, table: Mapping[str, Any], spec: _Tabled, quick: bool) -> Training:
    own = ("title", "start", "seeds", "networks")
    start, seeds = table.get("start", "inherited"), table.get("seeds", 3)
    if start not in _STARTS:
        raise StudyError(f"trainings.{name}.start = {start!r}: expected one of {', '.join(_STARTS)}")
    if type(seeds) is not int or seeds < 2:
        raise StudyError(f"trainings.{name}.seeds = {seeds!r}: expected at least 2, for an interval")
    return Training(
        name=name,
        title=str(table.get("title", name)),
        spec=spec(name, table, own),
        scratch=start == "scratch",
        seeds=2 if quick else seeds,
        networks=_strings(table, "networks", f"trainings.{name}"),
    )


def _tiny(spec: StudySpec) -> StudySpec:
    return replace(
        spec,
        evaluations=4,
        batch=4,
        data=replace(spec.data, test=100),
        evaluation=replace(spec.evaluation, images=100, calibration_images=32),
        retrain=replace(spec.retrain, updates=4, batch_size=16, checkpoint_every=2),
    )


def _strings(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise StudyError(f"{where}.{key} = {value!r}: expected a list of names")
    return tuple(value)


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, Mapping):
        raise StudyError(f"{key} = {value!r}: expected a table [{key}]")
    return value


def _tables(data: Mapping[str, Any], key: str) -> Mapping[str, Mapping[str, Any]]:
    """The tables ``[key.NAME]``, at least one."""
    tables = _table(data, key)
    if not tables:
        raise StudyError(f"[{key}.NAME] is missing: give at least one")
    return {name: _table(tables, name) for name in tables}


def _known(table: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in names:
            raise StudyError(f"unknown key {where}{key} = {shown(table[key])}; expected {', '.join(names)}")

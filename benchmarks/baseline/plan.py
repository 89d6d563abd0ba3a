"""What is compared: a TOML file of searches and trainings, each a study with some keys changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from aspk.errors import StudyError
from aspk.spec.study import StudySpec, changed, load_study_file
from aspk.util.files import safe_name
from aspk.util.schema import OTHERS, Key, Text, check_table, one_of
from aspk.util.shipped import read_toml
from benchmarks.baseline.selection import PICKS

# A table of its own, [searches.NAME] or [trainings.NAME], is a study with some keys changed: OTHERS.
_CHANGES = {OTHERS: Key(Any)}
_NAMES = Key(list[str])
_SEARCH = Key(
    table={
        "title": Key(Text),
        "fixed": _NAMES,
        "select": Key(list[Annotated[str, one_of(PICKS)]]),
        **_CHANGES,
    }
)
_TRAINING = Key(
    table={
        "title": Key(Text),
        "start": Key(Literal["inherited", "scratch"]),
        "seeds": Key(Annotated[int, Meta(ge=2, description="at least 2, for an interval")]),
        "networks": _NAMES,
        **_CHANGES,
    }
)
_HEADLINE = {
    "study": Key(Text, default=MISSING, meaning="a study file, or the name of a shipped one"),
    "folder": Key(Text),
    "margin": Key(
        Annotated[float, Meta(gt=0, lt=1, description="a share between 0 and 1, 0.01 for one point")]
    ),
    "changes": Key(table=_CHANGES),
    "searches": Key(table={OTHERS: _SEARCH}, default=MISSING, meaning="give at least one, [searches.NAME]"),
    "trainings": Key(
        table={OTHERS: _TRAINING}, default=MISSING, meaning="give at least one, [trainings.NAME]"
    ),
}
_Tabled = Callable[[str, Mapping[str, Any], tuple[str, ...]], StudySpec]


@dataclass(frozen=True, kw_only=True)
class Search:
    """One search.

    Attributes:
        name: names its study and its networks.
        title: its name in tables.
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
        title: its name in tables.
        spec: the study; its ``retrain`` is the recipe.
        scratch: whether it starts from fresh weights instead of inherited ones.
        seeds: trainings of each network, at least 2.
        networks: names of the networks to train; empty means all.
    """

    name: str
    title: str
    spec: StudySpec
    scratch: bool
    seeds: int
    networks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
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


def load_comparison(source: str | Path, *, quick: bool = False) -> Comparison:
    """Read a comparison from a TOML file, or by the name of a shipped one such as ``fashion_mnist``.

    Args:
        source: a path or a name.
        quick: use tiny budgets and a separate folder: checks that everything runs, the results mean nothing.

    Raises:
        StudyError: the file is missing or not valid; the message names file, key and value.
    """
    path, data = read_toml(source, folder="benchmarks/baseline", kind="comparison", error=StudyError)
    try:
        return _comparison(path, data, quick)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None


def _comparison(path: Path, data: Mapping[str, Any], quick: bool) -> Comparison:
    check_table(_HEADLINE, data, error=StudyError)
    for key in ("searches", "trainings"):
        if not data.get(key):
            raise StudyError(f"{key} is missing: give at least one, [{key}.NAME]")
    beside = path.parent / data["study"]
    source = str(beside) if beside.is_file() else data["study"]
    place = Path(str(data.get("folder", Path("runs") / f"comparison-{safe_name(path.stem)}")))
    folder = place.with_name(f"{place.name}-quick") if quick else place
    weights = load_study_file(source).weights_file
    common = data.get("changes", {})

    def spec(name: str, table: Mapping[str, Any], own: tuple[str, ...]) -> StudySpec:
        changes = changed(common, {key: value for key, value in table.items() if key not in own})
        found = load_study_file(source, {**changes, "name": name})
        # In our folder, with the study's supernet.
        found = replace(found, folder=folder, storage=None, weights=weights)
        return _tiny(found) if quick else found

    searches = [_search(name, table, spec) for name, table in data["searches"].items()]
    trainings = [_training(name, table, spec, quick) for name, table in data["trainings"].items()]
    return Comparison(
        name=path.stem,
        study=spec(path.stem, {}, ()),
        folder=folder,
        margin=data.get("margin", 0.01),
        searches=tuple(searches),
        trainings=tuple(trainings),
    )


def _search(name: str, table: Mapping[str, Any], spec: _Tabled) -> Search:
    return Search(
        name=name,
        title=table.get("title", name),
        spec=spec(name, table, ("title", "fixed", "select")),
        fixed=tuple(table.get("fixed", ())),
        select=tuple(table.get("select", ())),
    )


def _training(name: str, table: Mapping[str, Any], spec: _Tabled, quick: bool) -> Training:
    return Training(
        name=name,
        title=table.get("title", name),
        spec=spec(name, table, ("title", "start", "seeds", "networks")),
        scratch=table.get("start") == "scratch",
        seeds=2 if quick else table.get("seeds", 3),
        networks=tuple(table.get("networks", ())),
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

"""What is compared: a TOML file that names families, hand-made networks, budgets and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from aspk.errors import StudyError
from aspk.space import SearchSpace
from aspk.space.file import load_space
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import Recipe
from aspk.spec.study import StudySpec, load_study_file
from aspk.util.schema import OTHERS, Count, Key, Natural, Positive, Text, check_table
from aspk.util.shipped import read_toml

MOST = 6  # networks in the main comparison
FOUND = (
    "at-energy",
    "at-accuracy",
    "f-aeb",
)  # what found networks are chosen as, see benchmarks.comparison.choice
_SEEDS = Annotated[list[Natural], Meta(min_length=2)]
_FAMILY = {
    "study": Key(Text),
    "hand_made": Key(Annotated[list[str], Meta(min_length=1)]),
    "trainings": Key(Annotated[int, Meta(ge=2, le=10**6)]),
}
_TABLE = {
    "images": Key(Text),
    "core_hours": Key(Positive),
    "learning_rates": Key(Annotated[list[Positive], Meta(min_length=1)]),
    "tuning_seeds": Key(Annotated[list[Natural], Meta(min_length=1)]),
    "enough_seeds": Key(Annotated[list[Natural], Meta(min_length=1)]),
    "final_seeds": Key(_SEEDS),
    "families": Key(table={OTHERS: Key(table=_FAMILY)}),
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family: a study, and the hand-made networks of its space.

    Attributes:
        name: the family's name in tables.
        spec: the study.
        space: its search space.
        hand_made: hand-made networks by their name in the comparison.
        trainings: networks that ``aspk refine`` trains.
    """

    name: str
    spec: StudySpec
    space: SearchSpace
    hand_made: Mapping[str, SubnetConfig]
    trainings: Count

    def with_recipe(self, recipe: Recipe) -> Family:
        """The same family with a recipe for training networks alone."""
        return replace(self, spec=replace(self.spec, retrain=recipe))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A comparison, complete.

    Attributes:
        name: the file's name.
        images: what the images are; stands beside every figure.
        folder: weights, storages and training states.
        records: the log of all trainings, one JSON line each.
        core_hours: processor time after which nothing is begun any more.
        learning_rates: peak rates among which the recipe is tuned, on hand-made networks.
        tuning_seeds: seeds of the tuning.
        enough_seeds: seeds with which the updates are doubled.
        final_seeds: fresh seeds of the main comparison.
        families: what is searched; the first hand-made network is what the goals are about.
        quick: whether budgets are tiny, and nothing has to be committed.
    """

    name: str
    images: str
    folder: Path
    records: Path
    core_hours: float
    learning_rates: tuple[float, ...]
    tuning_seeds: tuple[int, ...]
    enough_seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]
    families: tuple[Family, ...]
    quick: bool = False

    @property
    def hand_made(self) -> dict[str, tuple[Family, SubnetConfig]]:
        """All hand-made networks by name; the goals are about the first."""
        return {name: (own, config) for own in self.families for name, config in own.hand_made.items()}

    @property
    def named_file(self) -> Path:
        """Where the found networks are named before ``test`` is read."""
        return self.records.with_suffix(".named.json")


def load_plan(source: str | Path, *, quick: bool = False, data_folder: str | None = None) -> Plan:
    """Read a comparison from a TOML file, or by the name of one beside this module.

    Args:
        source: a path or a name such as ``cifar10_16``.
        quick: tiny budgets in a folder of its own, which only show that everything runs.
        data_folder: where the data sets are, if not where the studies say: see :func:`data_place`.

    Raises:
        StudyError: the file is missing or not valid; the message names file, key and value.
    """
    path, data = read_toml(source, folder="benchmarks/comparison", kind="comparison", error=StudyError)
    at = f"{path}: "
    check_table(_TABLE, data, error=StudyError, at=at)
    missing = [key for key in _TABLE if key not in data]
    if missing:
        raise StudyError(f"{at}{missing[0]} is missing")
    options: dict[str, Any] = {"beside": path.parent, "quick": quick, "data_folder": data_folder}
    families = tuple(
        _family(name, table, at=f"{at}families.{name}.", **options)
        for name, table in data["families"].items()
    )
    if sum(len(family.hand_made) for family in families) + len(FOUND) > MOST:
        raise StudyError(
            f"{at}more than {MOST} networks: {len(FOUND)} are found, so at most {MOST - len(FOUND)} hand-made"
        )
    folder = Path("runs") / f"comparison-{path.stem}{'-quick' if quick else ''}"
    records = (
        folder / f"{path.stem}.jsonl" if quick else Path(f"benchmarks/records/comparison_{path.stem}.jsonl")
    )
    lists = ("learning_rates", "tuning_seeds", "enough_seeds", "final_seeds")
    plan = Plan(
        name=path.stem,
        images=data["images"],
        folder=folder,
        records=records,
        core_hours=float(data["core_hours"]),
        families=families,
        quick=quick,
        **{name: tuple(data[name]) for name in lists},
    )
    return (
        replace(plan, learning_rates=plan.learning_rates[:2], final_seeds=plan.final_seeds[:2])
        if quick
        else plan
    )


def _family(
    name: str,
    table: Mapping[str, Any],
    *,
    beside: Path,
    quick: bool,
    data_folder: str | None,
    at: str,
) -> Family:
    missing = [key for key in _FAMILY if key not in table]
    if missing:
        raise StudyError(f"{at}{missing[0]} is missing")
    file = beside / table["study"]
    spec = load_study_file(file if file.is_file() else table["study"])
    if data_folder is not None:
        spec = replace(spec, data=spec.data.in_folder(data_place(spec.data.name, data_folder)))
    space = load_space(spec.space)
    known = {"reference": space.reference, **space.named}
    for own in table["hand_made"]:
        if own not in known:
            raise StudyError(
                f"{at}hand_made: space {space.name!r} names no network {own!r}: {', '.join(known)}"
            )
    hand_made = {f"{name} {own}": known[own] for own in table["hand_made"]}
    if quick:
        spec = replace(
            spec,
            evaluations=12,
            batch=6,
            data=replace(spec.data, train=256, search=64, test=64),
            train=_tiny(spec.train),
            retrain=_tiny(spec.retrain),
            evaluation=replace(spec.evaluation, images=64, calibration_images=32, batch_size=64),
        )
    return Family(
        name=name,
        spec=spec,
        space=space,
        hand_made=hand_made,
        trainings=min(4, table["trainings"]) if quick else table["trainings"],
    )


def _tiny(recipe: Recipe) -> Recipe:
    return replace(recipe, updates=4, batch_size=16, checkpoint_every=2)


def data_place(name: str, folder: str) -> str:
    """The folder of a data set below one with several: that of its own name if there is one."""
    own = Path(folder) / name
    return str(own if own.is_dir() else folder)

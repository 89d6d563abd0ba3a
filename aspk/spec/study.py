"""Study files: TOML to :class:`StudySpec`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from msgspec import Meta

from aspk.energy import EnergyModel, energy_model_from_dict
from aspk.energy.presets import account_table
from aspk.errors import AspkError, StudyError
from aspk.objectives import OBJECTIVES, budget
from aspk.objectives.scalarization import FAEB, Form
from aspk.spec.paths import with_places
from aspk.spec.recipe import recipe_from_dict, recipe_table
from aspk.spec.samplers import SAMPLERS
from aspk.spec.settings import DataSettings, EngineSettings, EvaluationSettings, Recipe, data_key
from aspk.util.files import safe_name
from aspk.util.schema import (
    OTHERS,
    Count,
    Key,
    Positive,
    Table,
    Text,
    check_fields,
    check_table,
    one_of,
    table_of,
)
from aspk.util.shipped import read_toml

SamplerName = Annotated[str, one_of(SAMPLERS)]
ObjectiveName = Annotated[str, one_of((*OBJECTIVES, "f_aeb"))]
Aim = Literal["objectives", "f_aeb"]  # of a search that trains


@dataclass(frozen=True, kw_only=True)
class FAEBSettings:
    """The form of F_AEB, see :mod:`aspk.objectives.scalarization`.

    Attributes:
        form: how accuracy and energy are combined.
        weight: weight of energy, if not the form's default.
        floor: smallest relative energy that counts.
    """

    form: Form = "product"
    weight: Positive | None = None
    floor: Positive = 1e-3

    def __post_init__(self) -> None:
        self.of(1.0, 2)

    def of(self, reference_energy_mj: float, classes: int) -> FAEB:
        """F_AEB for a reference energy in mJ and a number of classes.

        Raises:
            ObjectiveError: a value is out of range.
        """
        return FAEB(reference_energy_mj=reference_energy_mj, classes=classes, **asdict(self))


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """The complete description of a study: the same spec gives the same search.

    Attributes:
        name: the study's name in the storage; unless given, that of its file.
        space: a search-space file or the name of a shipped one.
        data: the data set and its splits.
        folder: where weights, storage, reports and exports go; in a file, ``runs/NAME`` unless given.
        seed: seed of training and search.
        objectives: what is optimised: names in :data:`aspk.objectives.OBJECTIVES`, and ``f_aeb``, see
            :mod:`aspk.objectives.scalarization`.
        evaluations: networks to evaluate.
        batch: networks evaluated together.
        storage: an Optuna storage URL, or a file ending in ``.log`` for a journal; SQLite in ``folder``
            unless given.
        weights: the supernet's file; ``supernet.safetensors`` in ``folder`` unless given.
        train: the recipe of the supernet.
        retrain: the recipe for training the found networks on their own.
        evaluation: how networks are evaluated.
        engine: what evaluations run on; it may differ between the runs of a study.
        energy: the energy account.
        faeb: the form of F_AEB.
        constraints: upper bounds on objectives that are minimised, by name (energy in mJ).
        sampler: the sampler's name.
        sampler_options: keyword arguments of the sampler.
        prior_studies: finished studies with the same objectives that the search learns from: their files, or
            names of shipped ones.
        stop_below: ends the search before ``evaluations`` once the next one was, for twenty evaluations,
            expected to add less than this share to the hypervolume, such as 0.001; never unless given.
    """

    name: Text
    space: Text
    data: DataSettings
    folder: Path
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0  # the range that all generators accept
    objectives: Annotated[tuple[ObjectiveName, ...], Meta(min_length=1)] = ("accuracy", "energy")
    evaluations: Count = 150
    batch: Count = 25
    storage: Text | None = field(default=None, repr=False)  # may contain a password
    weights: Path | None = None
    train: Recipe = field(default_factory=Recipe)
    retrain: Recipe = field(default_factory=Recipe)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    energy: EnergyModel = field(default_factory=EnergyModel)
    faeb: FAEBSettings = field(default_factory=FAEBSettings)
    constraints: Mapping[str, float] = field(default_factory=dict)
    sampler: SamplerName = "surrogate"
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    prior_studies: tuple[Text, ...] = ()
    stop_below: Annotated[float, Meta(gt=0, lt=1)] | None = None

    def __post_init__(self) -> None:
        check_fields(self, error=StudyError)
        if len(set(self.objectives)) < len(self.objectives):
            raise StudyError(f"objectives = {list(self.objectives)}: expected different names")
        for name, bound in self.constraints.items():
            budget(name, bound)

    @property
    def weights_file(self) -> Path:
        """The supernet's file."""
        return self.weights or self.folder / "supernet.safetensors"

    @property
    def storage_url(self) -> str:
        """The storage in use; in a URL, a folder's ``?`` and ``%`` are quoted."""
        return self.storage or f"sqlite:///{quote(str(self.folder / 'study.db'))}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values for the record in the study, without the storage and its password."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("evaluation", "engine", "faeb"):
            data[name] = asdict(data[name])
        data |= {"train": self.train.to_json(), "retrain": self.retrain.to_json()}
        data["energy"] = self.energy.to_json()
        data |= {"folder": str(self.folder), "weights": str(self.weights_file), "data": self.data.to_json()}
        data |= {name: list(data[name]) for name in ("objectives", "prior_studies")}
        del data["storage"]
        return data | {name: dict(data[name]) for name in ("constraints", "sampler_options")}


def load_study_file(source: str | Path, changes: Mapping[str, Any] | None = None) -> StudySpec:
    """Read a study from a TOML file or by the name of a shipped one.

    Paths in the file are relative to it, see :func:`aspk.spec.paths.with_places`.

    Args:
        source: a path, or a name such as ``digits``.
        changes: plain values that replace those of the file, see :func:`changed`.

    Raises:
        StudyError: the file is missing or not valid; the message names file, key and value.
    """
    path, data = read_toml(source, folder="studies", kind="study", error=StudyError)
    try:
        return study_from_dict(with_places(changed({"name": path.stem, **data}, changes or {}), path))
    except AspkError as error:
        raise StudyError(f"{path}: {error}") from None


def changed(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values with some replaced; a table that both have is merged key by key.

    A sampler is replaced as a whole, since another one has other options.
    """
    values = dict(data)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(values.get(key), Mapping) and key != "sampler"
        values[key] = {**values[key], **value} if both else value
    return values


@cache
def study_table() -> Table:
    """The keys of a study file."""
    own = dict(table_of(StudySpec))
    options = own.pop("sampler_options")._replace(kind=Any)
    bounds = {
        name: Key(Positive, meaning=f"upper bound on `{name}`{', in mJ' if name == 'energy' else ''}.")
        for name, one in OBJECTIVES.items()
        if one.direction == "minimize"
    }
    tables: dict[str, Table] = {
        "train": recipe_table(),
        "retrain": recipe_table(),
        "evaluation": table_of(EvaluationSettings),
        "engine": table_of(EngineSettings),
        "energy": account_table(),
        "faeb": table_of(FAEBSettings),
        "constraints": bounds,
    }
    sampler = {"name": own["sampler"], OTHERS: options}
    return {
        **own,
        "name": own["name"]._replace(default=None),
        "folder": own["folder"]._replace(kind=Text, default=None),
        "weights": own["weights"]._replace(kind=Text),
        "data": data_key(),
        **{name: Key(None, keys, None, own[name].meaning) for name, keys in tables.items()},
        "sampler": Key(None, sampler, None, "the search algorithm: its name, and its options."),
    }


def study_from_dict(data: Mapping[str, Any]) -> StudySpec:
    """Build and validate a study from plain values (the content of a TOML file).

    Raises:
        StudyError: a key is unknown or missing, or a value is wrong. Values that do not go together raise
            the errors of data, recipe, energy model and objectives.
    """
    values = check_table(study_table(), data, error=StudyError)
    if "name" not in values:
        raise StudyError("name is missing: the study's name in the storage")
    values["folder"] = Path(values.get("folder", Path("runs") / safe_name(values["name"])))
    values["data"] = DataSettings.from_json(values["data"])
    if "weights" in values:
        values["weights"] = Path(values["weights"])
    for name in ("objectives", "prior_studies"):
        if name in values:
            values[name] = tuple(values[name])
    for name in ("train", "retrain"):
        values[name] = recipe_from_dict(values.get(name, {}), at=f"{name}.")
    for name, kind in (
        ("evaluation", EvaluationSettings),
        ("engine", EngineSettings),
        ("faeb", FAEBSettings),
    ):
        values[name] = kind(**values.get(name, {}))
    values["energy"] = energy_model_from_dict(values.get("energy", {}))
    values["constraints"] = {name: float(bound) for name, bound in values.get("constraints", {}).items()}
    options = dict(values.get("sampler", {}))
    values |= {"sampler": options.pop("name", StudySpec.sampler), "sampler_options": options}
    return StudySpec(**values)


def with_sampler(spec: StudySpec, sampler: SamplerName | None) -> StudySpec:
    """The same study with another sampler and options, under the name ``NAME-SAMPLER``."""
    if sampler is None:
        return spec
    options = spec.sampler_options if sampler == spec.sampler else {}
    return replace(spec, name=f"{spec.name}-{sampler}", sampler=sampler, sampler_options=options)


_REFINED: dict[Aim, str] = {"objectives": "-refined", "f_aeb": "-refined-f_aeb"}


def refined(spec: StudySpec, trainings: int | None = None, *, aim: Aim = "objectives") -> StudySpec:
    """The study of trained networks that follows a study of a supernet.

    Args:
        spec: the study whose search it continues from.
        trainings: networks to train; None keeps the number of evaluations.
        aim: what is optimised: the study's ``objectives``, under the name ``NAME-refined``, or ``f_aeb``
            alone, under the name ``NAME-refined-f_aeb``.
    """
    alone = aim == "f_aeb"
    return replace(
        spec,
        name=f"{spec.name}{_REFINED[aim]}",
        objectives=("f_aeb",) if alone else spec.objectives,
        evaluations=trainings or spec.evaluations,
        batch=1,
        sampler="surrogate",
        sampler_options={},
        prior_studies=(),
        stop_below=None,
    )


def maker(spec: StudySpec) -> str:
    """The command that makes a study, for messages that say what to run."""
    return "aspk refine" if spec.name.endswith(tuple(_REFINED.values())) else "aspk search"

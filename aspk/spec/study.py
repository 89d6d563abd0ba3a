"""Study files: TOML to :class:`StudySpec`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from aspk.energy import PRESETS, EnergyModel
from aspk.errors import AspkError, StudyError
from aspk.objectives import OBJECTIVES, budget
from aspk.objectives.scalarization import FAEB, Form
from aspk.spec.paths import with_places
from aspk.spec.recipe import recipe_from_dict
from aspk.spec.settings import DataSettings, EngineSettings, EvaluationSettings, Recipe
from aspk.util.files import safe_name
from aspk.util.numbers import is_count, is_finite
from aspk.util.passwords import shown
from aspk.util.shipped import read_toml

SAMPLERS = ("surrogate", "nsga2", "evolutionary", "random")
SEEDS = 2**63  # number of seeds; what all generators take
_Table = TypeVar("_Table")


@dataclass(frozen=True, kw_only=True)
class FAEBSettings:
    """The form of F_AEB, see :mod:`aspk.objectives.scalarization`.

    Attributes:
        form: ``product``, ``linear`` or ``chebyshev``.
        weight: weight of energy; None takes the form's default.
        floor: smallest relative energy that counts.
    """

    form: Form = "product"
    weight: float | None = None
    floor: float = 1e-3

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
    """A study, complete: the same spec gives the same search.

    Attributes:
        name: the study's name in the storage.
        space: a search-space file or the name of a shipped one.
        data: the data set and its splits.
        folder: where weights, storage, reports and exports go.
        seed: seed of training and search.
        objectives: names in :data:`aspk.objectives.OBJECTIVES`, or ``f_aeb`` alone or among them.
        evaluations: networks to evaluate.
        batch: networks evaluated together.
        storage: an Optuna storage URL, or a file ending in ``.log`` for a journal; None is SQLite in
            ``folder``.
        weights: the supernet's file; None is ``supernet.safetensors`` in ``folder``.
        train: the recipe of the supernet.
        retrain: the recipe of found networks that are trained alone.
        evaluation: how networks are evaluated.
        engine: what evaluations run on; it may differ between the runs of a study.
        energy: the energy account.
        faeb: the form of F_AEB.
        constraints: upper bounds on objectives, by name (energy in mJ).
        sampler: the sampler's name.
        sampler_options: keyword arguments of the sampler.
    """

    name: str
    space: str
    data: DataSettings
    folder: Path
    seed: int = 0
    objectives: tuple[str, ...] = ("accuracy", "energy")
    evaluations: int = 150
    batch: int = 25
    storage: str | None = field(default=None, repr=False)  # a password may stand there
    weights: Path | None = None
    train: Recipe = field(default_factory=Recipe)
    retrain: Recipe = field(default_factory=Recipe)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    energy: EnergyModel = field(default_factory=EnergyModel)
    faeb: FAEBSettings = field(default_factory=FAEBSettings)
    constraints: Mapping[str, float] = field(default_factory=dict)
    sampler: str = "surrogate"
    sampler_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise StudyError(f"sampler.name = {self.sampler!r}: expected one of {', '.join(SAMPLERS)}")
        for name in ("evaluations", "batch"):
            if not is_count(getattr(self, name), 1):
                raise StudyError(f"{name} = {shown(getattr(self, name))}: expected at least 1, at most 2**53")
        if not 0 <= self.seed < SEEDS:
            raise StudyError(f"seed = {shown(self.seed)}: expected 0 to {SEEDS - 1}")
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise StudyError(f"objectives = {list(self.objectives)}: expected different names, at least one")
        for name in self.objectives:
            if name not in OBJECTIVES and name != "f_aeb":
                raise StudyError(f"objective {name!r}: expected one of {', '.join(OBJECTIVES)}, f_aeb")
        for name, bound in self.constraints.items():
            budget(name, bound)

    @property
    def weights_file(self) -> Path:
        """The supernet's file."""
        return self.weights or self.folder / "supernet.safetensors"

    @property
    def storage_url(self) -> str:
        """The storage in use; in a URL, ``?`` and ``%`` of a folder's name would mean something else."""
        return self.storage or f"sqlite:///{quote(str(self.folder / 'study.db'))}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values for the record in the study; a storage's password is not among them."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("evaluation", "engine", "faeb"):
            data[name] = asdict(data[name])
        data |= {"train": self.train.to_json(), "retrain": self.retrain.to_json()}
        data["energy"] = self.energy.to_json()
        data |= {"folder": str(self.folder), "weights": str(self.weights_file), "data": self.data.to_json()}
        data["objectives"] = list(self.objectives)
        del data["storage"]
        return data | {name: dict(data[name]) for name in ("constraints", "sampler_options")}


def load_study_file(source: str | Path, changes: Mapping[str, Any] | None = None) -> StudySpec:
    """Read a study from a TOML file or by the name of a shipped one.

    Paths in the file start from it, see :func:`aspk.spec.paths.with_places`.

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
    """Plain values with others in their place; of a table that both have, key by key.

    A sampler is replaced as a whole: another one has other options.
    """
    values = dict(data)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(values.get(key), Mapping) and key != "sampler"
        values[key] = {**values[key], **value} if both else value
    return values


_PLAIN: dict[str, type] = {
    "name": str,
    "space": str,
    "folder": str,
    "seed": int,
    "objectives": list,
    "evaluations": int,
    "batch": int,
    "storage": str,
    "weights": str,
}
_TABLES = ("train", "retrain", "evaluation", "engine", "energy", "faeb", "constraints", "sampler")


def study_from_dict(data: Mapping[str, Any]) -> StudySpec:
    """Build and validate a study from plain values (the content of a TOML file).

    Raises:
        StudyError: a key is unknown or missing, or a value is wrong. Data, recipe, energy model and
            objectives raise their own errors.
    """
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key in _PLAIN:
            if not isinstance(value, _PLAIN[key]) or isinstance(value, bool):
                raise StudyError(f"{key} = {shown(value)}: expected {_PLAIN[key].__name__}")
            if "\0" in str(value):
                raise StudyError(f"{key} = {shown(value)}: expected text without null characters")
            values[key] = value
        elif key == "data":
            values[key] = DataSettings.from_json(value)
        elif key not in _TABLES:
            expected = ", ".join((*_PLAIN, "data", *_TABLES))
            raise StudyError(f"unknown key {key} = {shown(value)}; expected {expected}")
        elif not isinstance(value, Mapping):
            raise StudyError(f"{key} = {shown(value)}: expected a table [{key}]")
    for key in ("space", "data"):
        if key not in values:
            raise StudyError(f"{key} is missing")
    values["folder"] = Path(values.get("folder", Path("runs") / safe_name(values["name"])))
    if "weights" in values:
        values["weights"] = Path(values["weights"])
    if "objectives" in values:
        values["objectives"] = tuple(str(name) for name in values["objectives"])
    for name in ("train", "retrain"):
        values[name] = recipe_from_dict(data.get(name, {}), at=f"{name}.")
    values["evaluation"] = _table(EvaluationSettings, data, "evaluation")
    values["engine"] = _table(EngineSettings, data, "engine")
    values["faeb"] = _table(FAEBSettings, data, "faeb")
    values["energy"] = _energy(dict(data.get("energy", {})))
    values["constraints"] = _constraints(data.get("constraints", {}))
    options = dict(data.get("sampler", {}))
    values["sampler"] = options.pop("name", "surrogate")
    values["sampler_options"] = options
    return StudySpec(**values)


def _table(kind: type[_Table], data: Mapping[str, Any], key: str) -> _Table:
    table = data.get(key, {})
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]  # dataclasses only
    for name in table:
        if name not in known:
            raise StudyError(f"unknown key {key}.{name}; expected {', '.join(sorted(known))}")
    try:
        return kind(**table)
    except TypeError as error:
        raise StudyError(f"[{key}]: {error}") from None


def _energy(table: dict[str, Any]) -> EnergyModel:
    preset = table.pop("preset", "spikformer_paper")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise StudyError(f"energy.preset = {preset!r}: expected one of {', '.join(PRESETS)}")
    if not table:
        return PRESETS[preset]
    values = {**asdict(PRESETS[preset]), "name": f"{preset}, changed", **table}
    return _table(EnergyModel, {"energy": values}, "energy")


def _constraints(table: Mapping[str, Any]) -> dict[str, float]:
    for name, bound in table.items():
        if not is_finite(bound):
            raise StudyError(f"constraints.{name} = {shown(bound)}: expected a number")
    return {name: float(bound) for name, bound in table.items()}


def with_sampler(spec: StudySpec, sampler: str | None) -> StudySpec:
    """The same study with another sampler and options, under the name ``NAME-SAMPLER``."""
    if sampler is None:
        return spec
    options = spec.sampler_options if sampler == spec.sampler else {}
    return replace(spec, name=f"{spec.name}-{sampler}", sampler=sampler, sampler_options=options)

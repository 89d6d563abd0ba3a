"""Search problems as tables: every network of a small space, evaluated once and for all.

A table file is NumPy's ``.npz``: an array ``header`` (JSON as bytes: the space and where the numbers come
from) and one array ``SPLIT/METRIC`` for each metric, a row for each network in the order of
:meth:`~aspk.space.SearchSpace.networks`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aspk.errors import AspkError, EvaluationError, TableError
from aspk.evaluation import Result
from aspk.metrics import Metrics
from aspk.objectives import Direction, Objective, minimised, objective
from aspk.space import IntArray, SearchSpace
from aspk.space.file import space_from_dict
from aspk.space.genes import SubnetConfig
from aspk.space.operators import keys
from aspk.util.files import write_atomically
from aspk.util.npz import read_npz
from aspk.util.pareto import FloatArray, hypervolume, nondominated

Columns = Mapping[str, npt.NDArray[Any]]  # metric name to its values, shape (n,)
FORMAT = 1
MARGIN = 0.1  # of the front's range, by which the reference point lies beyond the front's worst values
_FOLDER = Path(__file__).parent / "data"
_OWN = ("accuracy", "energy_mj", "parameters", "operations", "spikes", "firing_rate")
_WHOLE = ("parameters", "operations")
_INTEGERS = "iu"  # kinds of NumPy's types


@dataclass(frozen=True)
class Table:
    """The metrics of every network of a space, or of a sample of them.

    Attributes:
        space: the space.
        splits: name of each split to its columns, ``accuracy`` and ``energy_mj`` among them.
        about: where the numbers come from, as JSON values.
        sample: different networks as canonical index vectors, shape (n, G), row by row; None is every network
            of the space, in the order of its ``networks()``.
    """

    space: SearchSpace
    splits: Mapping[str, Columns]
    about: Mapping[str, Any] = field(default_factory=dict)
    sample: IntArray | None = None

    def __post_init__(self) -> None:
        if not self.splits:
            raise TableError(f"a table of {self.space.name!r} needs at least one split")
        if self.sample is not None:
            self._check(self.sample)
        for split, columns in self.splits.items():
            for name in ("accuracy", "energy_mj", *columns):
                shape = columns[name].shape if name in columns else None
                if shape != (self.size,):
                    raise TableError(
                        f"{split}/{name}: expected a number for each of the {self.size:,} networks of "
                        f"{self.space.name!r}, got shape {shape}"
                    )
                if not np.isfinite(columns[name]).all():
                    raise TableError(f"{split}/{name}: expected finite numbers only")

    @property
    def size(self) -> int:
        """Number of networks, n."""
        return self.space.size if self.sample is None else len(self.sample)

    @cached_property
    def networks(self) -> IntArray:
        """The networks as canonical index vectors, shape (n, G), row by row."""
        return np.array(list(self.space.networks())) if self.sample is None else self.sample

    def _check(self, sample: IntArray) -> None:
        for x in sample:
            self.space.check(x)
        if not np.array_equal(sample, self.space.canonical(sample)):
            raise TableError(f"a sample of {self.space.name!r}: expected canonical index vectors")
        if len(set(keys(self.space, sample))) < len(sample):
            raise TableError(f"a sample of {self.space.name!r}: expected different networks")


def shipped_tables() -> dict[str, Path]:
    """Name to path of the tables of supernets' networks that come with aspk."""
    return _tables_in(_FOLDER)


def shipped_trained_tables() -> dict[str, Path]:
    """Name to path of the tables of trained networks that come with aspk, see :class:`TrainedTable`."""
    return _tables_in(_FOLDER / "trained")


def _tables_in(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.npz"))}


def write_table(table: Table, path: str | Path) -> None:
    """Write a table, atomically; equal tables become equal bytes.

    Accuracies keep their precision, whole numbers stay whole, other metrics are kept to 7 digits.

    Raises:
        OSError: the file cannot be written.
    """
    header = {"format": FORMAT, "space": table.space.to_json(), "about": dict(table.about)}
    arrays: dict[str, npt.NDArray[Any]] = {
        "header": np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8)
    }
    if table.sample is not None:
        arrays["sample"] = table.sample
    for split, columns in table.splits.items():
        arrays |= {f"{split}/{name}": _compact(name, column) for name, column in columns.items()}
    write_atomically(Path(path), npz(arrays))


def npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of a compressed ``.npz`` file."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    return content.getvalue()


def _compact(name: str, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if name in ("accuracy", *_WHOLE) or column.dtype.kind in _INTEGERS:
        return column
    with np.errstate(over="ignore"):
        short = column.astype(np.float32)
    return short if np.isfinite(short).all() else column


def load_table(source: str | Path) -> Table:
    """Read a table.

    Args:
        source: a file, or the name of a shipped table.

    Raises:
        TableError: there is no such table, or it is damaged.
    """
    shipped = shipped_tables() | shipped_trained_tables()
    path = shipped.get(str(source), Path(source))
    if not path.is_file():
        known = ", ".join(shipped) or "none yet"
        raise TableError(
            f"no table {str(source)!r}: give a file or one of those that come with aspk: {known}"
        )
    try:
        arrays = read_npz(path)
        header = json.loads(arrays.pop("header").tobytes())
        if header["format"] != FORMAT:
            raise TableError(f"{path}: format {header['format']!r}, this aspk reads {FORMAT}")
        space = space_from_dict(header["space"], where="space")
        splits: dict[str, dict[str, npt.NDArray[Any]]] = {}
        sample = arrays.pop("sample", None)
        for name, column in arrays.items():
            split, _, metric = name.partition("/")
            splits.setdefault(split, {})[metric] = (
                column if column.dtype.kind in _INTEGERS else column.astype(float)
            )
        return Table(space, splits, dict(header["about"]), sample)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TableError(f"{path}: not a table: {error!r}") from None
    except AspkError as error:
        raise TableError(f"{path}: {error}") from None


class TabularEvaluator:
    """An :class:`~aspk.evaluation.Evaluator` that looks up a table: the true front is known.

    Args:
        source: a table, its file, or the name of a shipped one.
        split: which accuracy and energy; ``search`` is for searching, ``test`` for final results.

    Raises:
        TableError: there is no such table or split.
    """

    def __init__(self, source: Table | str | Path, *, split: str = "search") -> None:
        self.table = source if isinstance(source, Table) else load_table(source)
        if split not in self.table.splits:
            raise TableError(f"no split {split!r}: this table has {', '.join(self.table.splits)}")
        self.split = split

    @property
    def space(self) -> SearchSpace:
        """The networks' space."""
        return self.table.space

    @property
    def networks(self) -> IntArray:
        """The table's networks as canonical index vectors, shape (n, G)."""
        return self.table.networks

    @cached_property
    def _row(self) -> dict[bytes, int]:
        return {key: row for row, key in enumerate(keys(self.space, self.networks))}

    def rows(self, X: npt.ArrayLike) -> IntArray:
        """The table's row of each index vector of ``X``, shape (m, G); shape (m,).

        Raises:
            TableError: a network is not in the table, which holds a sample.
        """
        genotypes = np.asarray(X, dtype=np.int64).reshape(-1, len(self.space.genes))
        found = [self._row.get(key) for key in keys(self.space, genotypes)]
        if None in found:
            x = genotypes[found.index(None)].tolist()
            raise TableError(f"network {x} of {self.space.name!r} is not among the {self.table.size:,} here")
        return np.array(found, dtype=np.int64)

    def evaluate(self, configs: Sequence[SubnetConfig]) -> list[Result]:
        """See :class:`~aspk.evaluation.Evaluator`; a network of another space has no metrics."""
        return [self._evaluate(config) for config in configs]

    def _evaluate(self, config: SubnetConfig) -> Result:
        try:
            return self.metrics[int(self.rows(self.space.encode(config))[0])]
        except AspkError as error:
            return EvaluationError(str(error))

    @cached_property
    def metrics(self) -> list[Metrics]:
        """The metrics of every network, by row."""
        columns = self.table.splits[self.split]
        return [
            _metrics(dict(zip(columns, row, strict=True)))
            for row in zip(*(column.tolist() for column in columns.values()), strict=True)
        ]

    # ------------------------------------------------------------------ what a search should find

    def values(self, objectives: Sequence[Objective | str] = ("accuracy", "energy")) -> FloatArray:
        """Objective values of every network, minimised, shape (n, k)."""
        chosen = [objective(item) if isinstance(item, str) else item for item in objectives]
        directions: list[Direction] = [item.direction for item in chosen]
        return minimised([[item(m) for item in chosen] for m in self.metrics], directions)

    def front(self, objectives: Sequence[Objective | str] = ("accuracy", "energy")) -> IntArray:
        """Rows of the true front."""
        return np.flatnonzero(nondominated(self.values(objectives)))

    def reference_point(self, objectives: Sequence[Objective | str] = ("accuracy", "energy")) -> FloatArray:
        """The worst values on the true front plus a tenth of its range, minimised, shape (k,).

        It is for scoring a search afterwards: a sampler that gets it knows part of the answer.
        """
        F = self.values(objectives)[self.front(objectives)]
        result: FloatArray = F.max(axis=0) + MARGIN * np.ptp(F, axis=0)
        return result

    def hypervolume(self, objectives: Sequence[Objective | str] = ("accuracy", "energy")) -> float:
        """Hypervolume of the true front up to :meth:`reference_point`."""
        return hypervolume(self.values(objectives), self.reference_point(objectives))


def _metrics(row: Mapping[str, float]) -> Metrics:
    own: dict[str, Any] = {k: int(v) if k in _WHOLE else v for k, v in row.items() if k in _OWN}
    return Metrics(**own, extras={name: value for name, value in row.items() if name not in _OWN})

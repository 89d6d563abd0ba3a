"""Building a table: every network of a space through evaluators, in batches that survive a kill."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aspk.energy import STRICT, energy_mj
from aspk.errors import TableError
from aspk.evaluation import Evaluator
from aspk.metrics import Metrics
from aspk.space import IntArray, SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.tables.table import Table, npz, write_table
from aspk.util.files import write_atomically
from aspk.util.interrupt import graceful_interruption
from aspk.util.locks import exclusive
from aspk.util.npz import read_npz
from aspk.util.progress import ProgressBar
from aspk.util.records import Identity, read_json, write_json

_MOST = 1_000_000  # networks of a table, whose rows are all in memory
Arrays = dict[str, npt.NDArray[Any]]


def build_table(
    space: SearchSpace,
    evaluators: Mapping[str, Evaluator],
    path: str | Path,
    *,
    about: Mapping[str, Any] | None = None,
    batch: int = 500,
    progress: bool = True,
) -> bool:
    """Evaluate every network of a space, and write the table.

    Each batch is a file in the folder ``path`` + ``.parts`` until all are there. After a kill at any
    moment, the same call resumes with the first missing batch. Networks that share their first layers are
    evaluated together, for evaluators that share that work.

    Args:
        space: the space; its ``size`` must be affordable.
        evaluators: name of each split to the evaluator of its images.
        path: the table's file.
        about: where the numbers come from, as JSON values; a run with other values is refused.
        batch: networks in a call of ``evaluate``, at least 1.
        progress: whether to show a progress bar.

    Returns:
        Whether the table is complete; False after Ctrl-C.

    Raises:
        LockError: another process builds the same table.
        TableError: the parts on disk belong to another table, or a network cannot be evaluated.
    """
    if batch < 1:
        raise TableError(f"batch={batch}: expected at least 1")
    check_size(space)
    path, networks, about = Path(path), np.array(list(space.networks())), about or {}
    with exclusive(path):
        return _build(space, evaluators, path, networks, about=about, batch=batch, progress=progress)


def _build(
    space: SearchSpace,
    evaluators: Mapping[str, Evaluator],
    path: Path,
    networks: IntArray,
    *,
    about: Mapping[str, Any],
    batch: int,
    progress: bool,
) -> bool:
    parts = path.with_name(f"{path.name}.parts")
    _agree(parts, {"space": space.to_json(), "splits": list(evaluators), "about": about, "batch": batch})
    order = prefix_order(space, networks)
    batches = np.split(order, range(batch, len(order), batch))
    bar = ProgressBar(total=len(order), desc=path.stem, unit="net", disable=not progress)
    with (
        graceful_interruption(finishing="the batch", lost="its networks are evaluated again") as interruption,
        bar,
    ):
        for number, rows in enumerate(batches):
            part = parts / f"{number:05}.npz"
            if interruption.requested:
                return False
            if not part.is_file():
                write_atomically(part, npz(_evaluated(evaluators, [space.decode(x) for x in networks[rows]])))
            bar.update(len(rows))
    write_table(Table(space, _gathered(parts, batches), about), path)
    shutil.rmtree(parts)
    return True


def check_size(space: SearchSpace) -> None:
    """Refuse a space too large for a table, before its networks are listed.

    Raises:
        TableError: it has too many networks.
    """
    if space.size > _MOST:
        raise TableError(
            f"{space.name!r} has {space.size:,} networks, a table holds at most {_MOST:,}: "
            "give a part of the space, with fewer genes or choices"
        )


def prefix_order(space: SearchSpace, networks: IntArray) -> IntArray:
    """An order in which neighbours share as many of their first layers as possible.

    The network's genes first, but depth and T last; between them block by block, with a shallow network
    before those that extend it.

    Args:
        space: the space.
        networks: index vectors, shape (n, G).

    Returns:
        Row numbers, shape (n,).
    """
    shared = [i for i, gene in enumerate(space.genes) if gene.name not in ("depth", "time_steps")]
    last = [i for i, gene in enumerate(space.genes) if gene.name in ("depth", "time_steps")]
    visible = np.where(space.active(networks), networks, -1)
    order: IntArray = np.lexsort(visible[:, [*shared, *last]].T[::-1])
    return order


def _agree(parts: Path, plan: Mapping[str, Any]) -> None:
    """Record what the parts belong to; refuse those of something else."""
    file = parts / "plan.json"
    if not file.is_file():
        write_json(file, plan)
        return
    advice = f"remove {parts}, or write to another file"
    Identity(values=plan).require(read_json(file), where=file, error=TableError, advice=advice)


def _evaluated(evaluators: Mapping[str, Evaluator], configs: Sequence[SubnetConfig]) -> Arrays:
    arrays: Arrays = {}
    for split, evaluator in evaluators.items():
        arrays |= _columns(split, list(evaluator.evaluate(configs)), len(configs))
    return arrays


def _columns(split: str, results: Sequence[object], count: int) -> Arrays:
    for result in results:
        if not isinstance(result, Metrics):
            raise TableError(f"a table needs every network, but one has no metrics on {split}: {result}")
    if len(results) != count:
        raise TableError(f"the evaluator of {split} gave {len(results)} results for {count} networks")
    rows = [_scalars(metrics) for metrics in results if isinstance(metrics, Metrics)]
    return {f"{split}/{name}": np.array([row[name] for row in rows]) for name in rows[0]}


def _scalars(metrics: Metrics) -> dict[str, float]:
    strict = {"strict_mj": energy_mj(metrics.layers, STRICT)} if metrics.layers else {}
    return metrics.scalars() | strict


def _gathered(parts: Path, batches: Sequence[IntArray]) -> dict[str, Arrays]:
    """All parts together, in the order of ``space.networks()``."""
    back = np.argsort(np.concatenate(batches))
    columns: dict[str, list[npt.NDArray[Any]]] = {}
    for number in range(len(batches)):
        part = parts / f"{number:05}.npz"
        try:
            arrays = read_npz(part)
        except (ValueError, OSError) as error:
            raise TableError(f"{part}: damaged: {error}; remove it, and the same command goes on") from None
        for name, piece in arrays.items():
            columns.setdefault(name, []).append(piece)
    splits: dict[str, Arrays] = {}
    for name, pieces in columns.items():
        split, _, metric = name.partition("/")
        splits.setdefault(split, {})[metric] = np.concatenate(pieces)[back]
    return splits

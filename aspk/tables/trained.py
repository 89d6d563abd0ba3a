"""Tables of trained networks: metrics after training each alone, and those with a supernet's weights.

Such a table is a :class:`~aspk.tables.Table` with these splits:

- ``search_seed_0``, ``test_seed_0``, ``search_seed_1`` and so on: trained alone, one seed each;
- ``search`` and ``test``: their means over the seeds;
- ``search_own``, ``test_own``, ``search_shared_time``, ``test_shared_time``: with the supernet's weights,
  after a calibration at the network's T or at the longest one.

``strict_mj`` and ``firing_rate`` of a training are those on ``test`` in its ``search`` splits, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aspk.errors import TableError
from aspk.space import IntArray, SearchSpace
from aspk.tables.table import Columns, Table, TabularEvaluator, load_table
from aspk.util.pareto import FloatArray

ImagesOf = Literal["search", "test"]
IMAGES: tuple[ImagesOf, ...] = ("search", "test")
STAGES = ("third", "two_thirds", "end")  # of a training, at which its loss is kept
_MEAN = ("accuracy", "energy_mj", "strict_mj", "firing_rate")


class TrainedTable:
    """Networks trained alone with several seeds, and their metrics with a supernet's weights.

    Args:
        source: a table, its file, or the name of a shipped one.

    Raises:
        TableError: there is no such table, or it does not hold trained networks.
    """

    def __init__(self, source: Table | str | Path) -> None:
        self.table = source if isinstance(source, Table) else load_table(source)
        names = list(self.table.splits)
        self.seeds = sum(name.startswith("test_seed_") for name in names)
        self.statistics = tuple(name.removeprefix("test_") for name in names if _is_inherited(name))
        wanted = _names(self.seeds, self.statistics)
        if not self.seeds or (missing := [name for name in wanted if name not in names]):
            raise TableError(
                f"a table of {self.space.name!r} with the splits {', '.join(names)} is not one of trained "
                f"networks: it lacks {', '.join(missing) if self.seeds else 'test_seed_0'}"
            )

    @property
    def space(self) -> SearchSpace:
        """The networks' space."""
        return self.table.space

    @property
    def networks(self) -> IntArray:
        """The networks as canonical index vectors, shape (n, G)."""
        return self.table.networks

    def accuracies(self, images: ImagesOf = "test") -> FloatArray:
        """Accuracy of each network and seed after training alone, shape (n, seeds)."""
        return self._of_seeds(images, "accuracy")

    def energies(self, images: ImagesOf = "test") -> FloatArray:
        """Energy of an image in mJ from the trained network's own spikes, shape (n, seeds)."""
        return self._of_seeds(images, "energy_mj")

    @property
    def losses(self) -> FloatArray:
        """Training loss of each network and seed at each of :data:`STAGES`, shape (n, seeds, 3)."""
        return np.stack([self._of_seeds("search", f"loss_{stage}") for stage in STAGES], axis=-1)

    @property
    def noise(self) -> float:
        """Standard deviation of the test accuracy of one training; NaN with one seed."""
        if self.seeds < 2:
            return float("nan")
        return float(np.sqrt(self.accuracies().var(axis=1, ddof=1).mean()))

    def inherited(self, statistics: str, images: ImagesOf = "search") -> Columns:
        """Each metric of all networks with the supernet's weights, by name; shape (n,) each.

        Args:
            statistics: ``own`` or ``shared_time``, see :class:`aspk.spec.settings.EvaluationSettings`.
            images: the split.

        Raises:
            TableError: the table has no such statistics.
        """
        if statistics not in self.statistics:
            raise TableError(
                f"statistics {statistics!r}: this table has {', '.join(self.statistics) or 'none'}"
            )
        return self.table.splits[f"{images}_{statistics}"]

    def training(self, seed: int, images: ImagesOf = "search") -> TabularEvaluator:
        """An evaluator that looks up one training of each network, as a search sees it.

        Raises:
            TableError: the networks were not trained with this seed.
        """
        return TabularEvaluator(self.table, split=f"{images}_seed_{seed}")

    def truth(self, images: ImagesOf = "test") -> TabularEvaluator:
        """An evaluator that looks up the means over all seeds."""
        return TabularEvaluator(self.table, split=images)

    def _of_seeds(self, images: ImagesOf, metric: str) -> FloatArray:
        columns = [self.table.splits[f"{images}_seed_{seed}"][metric] for seed in range(self.seeds)]
        return np.stack(columns, axis=1).astype(float)


def table_of_trained(
    space: SearchSpace,
    trained: Mapping[ImagesOf, Sequence[Columns]],
    inherited: Mapping[str, Mapping[ImagesOf, Columns]],
    *,
    about: Mapping[str, Any],
    sample: IntArray | None,
) -> TrainedTable:
    """Build a table of trained networks from its columns.

    Args:
        space: the networks' space.
        trained: split to the metrics after training, seed by seed.
        inherited: statistics to split to the metrics with the supernet's weights.
        about: see :class:`Table`.
        sample: see :class:`Table`.

    Raises:
        TableError: a number is missing or not finite.
    """
    splits: dict[str, Columns] = {}
    for images, seeds in trained.items():
        splits[images] = {
            name: np.mean([columns[name] for columns in seeds], axis=0) if name in _MEAN else seeds[0][name]
            for name in (*_MEAN, "parameters", "operations")
        }
        splits |= {f"{images}_seed_{seed}": columns for seed, columns in enumerate(seeds)}
    for statistics, columns_of in inherited.items():
        splits |= {f"{images}_{statistics}": columns for images, columns in columns_of.items()}
    return TrainedTable(Table(space, splits, about, sample))


def _is_inherited(name: str) -> bool:
    return name.startswith("test_") and not name.startswith("test_seed_")


def _names(seeds: int, statistics: Sequence[str]) -> list[str]:
    kinds = [*(f"_seed_{seed}" for seed in range(seeds)), *(f"_{kind}" for kind in statistics), ""]
    return [f"{images}{kind}" for images in IMAGES for kind in kinds]

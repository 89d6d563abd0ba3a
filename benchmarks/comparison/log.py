"""The log of a comparison: a line of JSON for each training, written as it finishes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from aspk.errors import StudyError
from aspk.standalone.job import Job, Trained
from benchmarks.comparison.plan import Plan
from benchmarks.run_log import RunLog

STAGES = ("tuning", "enough", "level one", "refine", "random", "final", "front")
_KEYS = ("stage", "family", "network", "updates", "learning_rate", "seed")
_VALUES = ("search", "energy_mj", "strict_mj", "firing_rate", "seconds", "processor_seconds")
_IDENTITY = ("identity", "", "", 0, 0.0, 0)


class Log:
    """The trainings of a comparison.

    Args:
        plan: the comparison, whose ``records`` is the file.

    Raises:
        StudyError: the file belongs to other data or another plan.
    """

    def __init__(self, plan: Plan, identity: Mapping[str, Any]) -> None:
        self._runs = RunLog(plan.records, _KEYS)
        known = self._runs.get(*_IDENTITY)
        if known is None:
            self._runs.add({**dict(zip(_KEYS, _IDENTITY, strict=True)), "about": dict(identity)})
        elif known["about"] != json.loads(json.dumps(identity)):
            raise StudyError(
                f"{plan.records}: made with {json.dumps(known['about'])}, this run brings "
                f"{json.dumps(identity)}; move the file away to begin anew"
            )

    def add(self, stage: str, family: str, network: str, job: Job, result: Trained) -> None:
        """Keep a training, unless the log has it."""
        key = self._key(stage, family, network, job)
        if self._runs.get(*key) is None:
            values = {name: getattr(result, name) for name in _VALUES}
            tested = {} if math.isnan(result.test) else {"test": result.test}
            rest = {"config": job.config.to_json(), "losses": list(result.losses)}
            self._runs.add({**dict(zip(_KEYS, key, strict=True)), **values, **tested, **rest})

    def has(self, stage: str, family: str, network: str, job: Job) -> bool:
        """Whether a training is done."""
        return self._runs.get(*self._key(stage, family, network, job)) is not None

    @staticmethod
    def _key(stage: str, family: str, network: str, job: Job) -> tuple[object, ...]:
        return (stage, family, network, job.recipe.updates, job.recipe.learning_rate, job.seed)

    def add_cost(self, family: str, piece: str, seconds: float, processor_seconds: float) -> None:
        """Keep what a piece of level one took; a piece that was killed is not known, and not counted."""
        number = len([row for row in self.rows("level one", family) if row["network"] == piece])
        key = dict(zip(_KEYS, ("level one", family, piece, 0, 0.0, number), strict=True))
        spent = {"seconds": round(seconds, 1), "processor_seconds": round(processor_seconds, 1)}
        self._runs.add({**key, **spent})

    def read(self) -> None:
        """Take in what a process for another family has added since."""
        self._runs.read()

    def rows(self, stage: str, family: str | None = None) -> list[dict[str, Any]]:
        """The lines of a stage, in the order in which they were written."""
        return [row for row in self._runs.all() if row["stage"] == stage and family in (None, row["family"])]

    def core_hours(self, *stages: str, family: str | None = None) -> float:
        """Processor time of some stages, of all if none is named."""
        rows = (row for stage in stages or STAGES for row in self.rows(stage, family))
        return sum(row["processor_seconds"] for row in rows) / 3600

    @property
    def about(self) -> dict[str, Any]:
        """What the log belongs to."""
        (row,) = self.rows("identity")
        return dict(row["about"])


def by_network(rows: Sequence[Mapping[str, Any]], value: str) -> dict[str, list[float]]:
    """A value of each network's trainings, by seed in ascending order."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row["network"], {})[row["seed"]] = row[value]
    return {name: [own[seed] for seed in sorted(own)] for name, own in found.items()}

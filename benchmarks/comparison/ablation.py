"""Ablation: what the supernet's front alone is worth, trained without any refinement."""

from __future__ import annotations

import numpy as np
from optuna.trial import TrialState

from aspk.errors import StudyError
from aspk.study.storage import open_study
from aspk.util.pareto import FloatArray, ranks
from benchmarks.comparison.bench import Bench, Training, name_of
from benchmarks.comparison.stages import tuned


def train_supernets_front(bench: Bench, name: str) -> bool:
    """Train as many networks of a family's supernet's front as its refinement found; False if interrupted.

    Raises:
        StudyError: there is no such family, the budget is spent, or its searches are not finished.
    """
    family, recipe = bench.family(name), tuned(bench)
    if len(bench.log.rows("refine", name)) < family.trainings:
        raise StudyError(
            f"the refinement of {name} is not finished: expected {family.trainings} trainings in "
            f"{bench.plan.records}; run the command without --supernets-front first"
        )
    hand_made = set(bench.plan.hand_made)
    count = sum(row["network"] not in hand_made for row in bench.log.rows("refine", name))
    spec = bench.spec(family, recipe)
    networks: dict[str, Training] = {}
    values: dict[str, tuple[float, float]] = {}
    for trial in open_study(spec).get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        config = family.space.decode(family.space.from_parameters(trial.params))
        network = name_of(bench, family, config)
        if network not in hand_made:
            job = bench.job("front", family, config, recipe, spec.seed)
            networks[network] = Training(name, network, job)
            values[network] = (-trial.user_attrs["accuracy"], trial.user_attrs["energy_mj"])
    rows = spread_front(np.array(list(values.values())), count)
    return bench.train("front", [list(networks.values())[row] for row in rows])


def spread_front(values: FloatArray, count: int) -> list[int]:
    """Rows of the best fronts; those of a front that is too large are spread evenly over its last column.

    Args:
        values: objectives, all minimised, shape (n, k).
        count: how many rows, at most n.
    """
    chosen: list[int] = []
    of = ranks(values)
    for rank in np.unique(of):
        front = np.flatnonzero(of == rank)
        front = front[np.argsort(values[front, -1], kind="stable")]
        if len(front) > (room := count - len(chosen)):
            front = front[np.linspace(0, len(front) - 1, room).round().astype(int)]
        chosen += front.tolist()
    return chosen

"""Which networks of the searches are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aspk.config import SubnetConfig
from aspk.metrics import Metrics
from aspk.objectives import minimised
from aspk.report.summary import Row, StudySummary
from aspk.retraining import Candidate
from aspk.space import SearchSpace


@dataclass(frozen=True)
class Chosen:
    """A network and all that it was chosen as.

    Attributes:
        candidate: the network, by the name of its first role.
        roles: names of what it was chosen as, ``reference`` or ``joint-knee`` say.
    """

    candidate: Candidate
    roles: tuple[str, ...]


_Rule = Callable[[StudySummary, float], Row | None]


def knee(summary: StudySummary, least: float) -> Row | None:
    """The front's knee."""
    return next((row for row in summary.front if row.number == summary.knee), None)


def most_accurate(summary: StudySummary, least: float) -> Row | None:
    """The most accurate network; of equal ones the cheapest."""
    return min(_measured(summary), key=lambda row: (-_accuracy(row), _energy(row)), default=None)


def cheapest(summary: StudySummary, least: float) -> Row | None:
    """The cheapest network of at least the accuracy ``least``."""
    enough = [row for row in _measured(summary) if _accuracy(row) >= least]
    return min(enough, key=lambda row: (_energy(row), -_accuracy(row)), default=None)


def best(summary: StudySummary, least: float) -> Row | None:
    """The network with the best first objective."""
    rows = _measured(summary)
    values = minimised([row.values for row in rows], summary.directions)
    return rows[int(values[:, 0].argmin())] if rows else None


PICKS: Mapping[str, _Rule] = {
    "knee": knee,
    "most-accurate": most_accurate,
    "cheapest": cheapest,
    "best": best,
}


def _measured(summary: StudySummary) -> list[Row]:
    return [row for row in summary.trials if row.feasible and row.metrics]


def _accuracy(row: Row) -> float:
    assert row.metrics, "only measured rows"
    return row.metrics.accuracy


def _energy(row: Row) -> float:
    assert row.metrics, "only measured rows"
    return row.metrics.energy_mj


def select(
    space: SearchSpace,
    named: Mapping[str, tuple[SubnetConfig, Metrics]],
    searched: Sequence[tuple[str, Sequence[str], StudySummary]],
    *,
    margin: float,
) -> tuple[list[Chosen], list[str]]:
    """The networks to train, each once, whatever number of roles it has.

    Args:
        space: the whole search space.
        named: networks by their role; ``reference`` is among them.
        searched: name, picks and outcome of each search.
        margin: accuracy that :func:`cheapest` may lose against the reference.

    Returns:
        The networks, and the roles for which there was none.
    """
    least = named["reference"][1].accuracy - margin
    found = dict(named)
    missing = []
    for name, picks, summary in searched:
        for pick in picks:
            row = PICKS[pick](summary, least)
            if row is None or row.metrics is None:
                missing.append(f"{name}-{pick}")
                continue
            config = space.decode(space.from_parameters(row.parameters))
            found[f"{name}-{pick}"] = (config, row.metrics)
    roles: dict[SubnetConfig, list[str]] = {}
    for role, (config, _) in found.items():
        roles.setdefault(config, []).append(role)
    chosen = [
        Chosen(Candidate(name=names[0], config=config, predicted=found[names[0]][1]), tuple(names))
        for config, names in roles.items()
    ]
    return chosen, missing

"""Which networks of the searches are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aspk.metrics import Metrics
from aspk.objectives import minimised
from aspk.report.selection import SELECTIONS
from aspk.report.selection import select as select_network
from aspk.report.summary import Row, StudySummary
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig
from aspk.standalone.retraining import Candidate


@dataclass(frozen=True)
class Chosen:
    """A network and all that it was chosen as.

    Attributes:
        candidate: the network, by the name of its first role.
        roles: names of what it was chosen as, for example ``reference`` or ``joint-knee``.
    """

    candidate: Candidate
    roles: tuple[str, ...]


PICKS = (*SELECTIONS, "near-reference", "best")


def pick(summary: StudySummary, rule: str, *, reference: float, margin: float) -> Row | None:
    """A search's network by a rule, None if it has none.

    Args:
        summary: the search.
        rule: one of :data:`PICKS`: a rule of :mod:`aspk.report.selection`; ``near-reference`` for the
            cheapest network that loses no more than the margin against the reference; or ``best`` for the
            best first objective.
        reference: the reference's accuracy, 0 to 1.
        margin: accuracy that may be lost, 0.01 is one point.
    """
    if rule == "near-reference":
        return near_reference(summary, reference - margin)
    if rule == "best":
        return best(summary)
    found = select_network(summary, rule, margin=margin).picks.get(rule)
    return found.row if found else None


def near_reference(summary: StudySummary, least: float) -> Row | None:
    """The cheapest network of at least the accuracy ``least``."""
    enough = [row for row in _measured(summary) if _accuracy(row) >= least]
    return min(enough, key=lambda row: (_energy(row), -_accuracy(row)), default=None)


def best(summary: StudySummary) -> Row | None:
    """The network with the best first objective."""
    rows = _measured(summary)
    values = minimised([row.values for row in rows], summary.directions)
    return rows[int(values[:, 0].argmin())] if rows else None


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
    """The networks to train, each once, however many roles it has.

    Args:
        space: the whole search space.
        named: networks by their role; ``reference`` is among them.
        searched: name, picks and outcome of each search.
        margin: accuracy that a network may lose, see :func:`pick`.

    Returns:
        The networks, and the roles for which there was none.
    """
    reference = named["reference"][1].accuracy
    found = dict(named)
    missing = []
    for name, picks, summary in searched:
        for rule in picks:
            row = pick(summary, rule, reference=reference, margin=margin)
            if row is None or row.metrics is None:
                missing.append(f"{name}-{rule}")
                continue
            config = space.decode(space.from_parameters(row.parameters))
            found[f"{name}-{rule}"] = (config, row.metrics)
    roles: dict[SubnetConfig, list[str]] = {}
    for role, (config, _) in found.items():
        roles.setdefault(config, []).append(role)
    chosen = [
        Chosen(Candidate(name=names[0], config=config, predicted=found[names[0]][1]), tuple(names))
        for config, names in roles.items()
    ]
    return chosen, missing

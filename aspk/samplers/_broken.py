"""Networks that do not work: outliers among a study's trials, which a search treats as failed ones.

A cell without a path from its input to its output, or a network that never fires, answers at chance and costs
less than all others. Nothing dominates it, so that it would stay on the front for ever: the reference point
would lie behind it, half of the proposals would be improvements on it that nobody wants, and the jump from
working networks to it would spoil what the regressions learn about these.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aspk.samplers._history import BoolArray, History
from aspk.space import SearchSpace
from aspk.space.operators import Genome, Genotypes
from aspk.util.pareto import FloatArray

# With these, broken networks are reported in up to 2 % of subsets of the shipped tables, where all networks
# work (in up to 19 % with 0.5, 0.1 and 5 for the first three), and in over 95 % of subsets that have some.
_GAP = 1.0  # gap to the broken ones, in ranges of all better values
_ALIKE = 0.03  # range of the broken ones, as a share of the gap
_FEWEST = 8  # different values needed to show what is usual
_STEPS = 5.0  # the gap, in mean steps between these values
_AGAIN = 2  # trials that are alike; a single one may be the end of a long tail


def set_aside(history: History, genome: Genome | None = None) -> History:
    """The history with broken networks moved to the failed trials; ``genome`` as for :func:`broken`."""
    out = broken(history.values, history.X, genome)
    if not out.any():
        return history
    return replace(history.of(~out), discarded=np.concatenate([history.discarded, history.X[out]]))


def broken(values: FloatArray, X: Genotypes | None = None, genome: Genome | None = None) -> BoolArray:
    """Which rows of minimised values, shape (n, k), are of networks that do not work, shape (n,).

    In one of the objectives, a gap lies between all other values and theirs: it is wide compared with the
    range of the others and (on a logarithmic scale if all are positive) with the steps between them. The
    values behind it are alike, as chance levels are. The bad end of a long tail is not broken, since its
    values lie apart from each other, nor is the end of costs that grow by factors.

    Where the outliers of an objective are exactly the trials with certain choices of an unordered parameter,
    as with a backbone that costs a hundred times as much, they work: a regression can learn such a jump. In a
    :class:`~aspk.space.SearchSpace`, whose genes are known to do no such thing, they do not.

    Args:
        values: of the networks.
        X: their genotypes, shape (n, G), if they are known.
        genome: their search space, None if it is not known.
    """
    out = np.zeros(len(values), dtype=bool)
    for column in values.T:
        own = _outliers(column)
        if X is None or not _chosen(genome, X, own):
            out |= own
    return out


def _outliers(values: FloatArray) -> BoolArray:
    """:func:`broken` of one objective, shape (n,)."""
    levels, counts = np.unique(values, return_counts=True)
    usual = np.log(levels) if levels[0] > 0 else levels
    with np.errstate(over="ignore"):  # of numbers at the end of the range
        below, steps = levels[:-1] - levels[0], np.arange(len(levels) - 1)
        wide = np.diff(levels) > _GAP * below
        wide &= steps * np.diff(usual) > _STEPS * (usual[:-1] - usual[0])
        alike = levels[-1] - levels[1:] <= _ALIKE * np.diff(levels)
    again = len(values) - np.cumsum(counts)[:-1] >= _AGAIN
    found = np.flatnonzero(wide & alike & again & (steps >= _FEWEST - 1))
    return values > levels[found[0]] if len(found) else np.zeros(len(values), dtype=bool)


def _chosen(genome: Genome | None, X: Genotypes, out: BoolArray) -> bool:
    """Whether some trials are exactly those with certain choices of an unordered gene, each seen twice."""
    if genome is None or isinstance(genome, SearchSpace) or not out.any():
        return False
    used = genome.active(X)
    for gene in np.flatnonzero(~genome.ordered & (genome.cardinalities > 1)):
        own, counts = np.unique(X[out, gene], return_counts=True)
        others = X[~out & used[:, gene], gene]
        if used[out, gene].all() and counts.min() >= _AGAIN and not np.isin(own, others).any():
            return True
    return False

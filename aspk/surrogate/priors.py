"""Priors for a process's hyperparameters: weak ones, and transfer priors from other spiking transformers.

Weak priors suit anything. Transfer priors are for networks of a :class:`~aspk.space.SearchSpace`: Gaussian
processes were fitted to 300 networks of five tables that come with aspk, and of the formula
(``python benchmarks/transfer_priors.py``, in ``docs/measured_search.md``). Their hyperparameters are similar:

- The logarithm of an energy is nearly a polynomial in the logarithms of the choices, without noise.
- The accuracy of a supernet's networks changes fast with width and time steps, hardly with heads and MLP
  ratios, and the first block's neurons matter more than those of later blocks.
- A smooth accuracy, such as the formula's, is another case, with longer lengths and more signal.

A search starts with these priors, and its own networks override them. A process uses the case whose median
makes its targets most probable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from aspk.space import SearchSpace
from aspk.space.operators import Genome
from aspk.surrogate.features import Feature, columns
from aspk.surrogate.process import Hyperparameters
from aspk.util.pareto import FloatArray

# One row for signal, noise, trend and each length: mean, standard deviation, lower and upper bound of its
# logarithm.
Priors = FloatArray
# Weak ones, for anything. Features and targets have unit scale: a length of 1.5 is a feature that matters
# moderately, 50 one that does not matter. Many costs and qualities are nearly linear in the logarithms of
# their choices, hence long lengths.
_SIGNAL = (0.0, 2.0, -4.0, 5.0)
_NOISE = (np.log(0.02), 1.5, np.log(1e-5), 0.5)
_TREND = (0.0, 2.0, -8.0, 5.0)
_LENGTH = (np.log(3.0), 1.2, -2.5, 4.5)
_LENGTH_IF_CONDITIONAL = (np.log(10.0), 1.2, -2.5, 4.5)  # a feature that only some designs have explains less
_LENGTH_IF_FINE = (np.log(1.0), 1.2, -2.5, 4.5)  # effects are nearly linear over a few choices, not over many

LogNormal = tuple[float, float]  # median, and standard deviation of the natural logarithm
_SIGNAL_BOUNDS = (-4.0, 7.0)
_NOISE_BOUNDS = (float(np.log(1e-6)), 0.5)
_LENGTH_BOUNDS = (-2.5, 5.0)


def weak_priors(features: int, *, conditional: Collection[int] = (), fine: Collection[int] = ()) -> Priors:
    """Priors for features that nothing is known about, shape (3 + features, 4).

    Args:
        features: their number.
        conditional: those that only some designs have.
        fine: those with many values.
    """
    lengths = [
        _LENGTH_IF_FINE if i in fine else _LENGTH_IF_CONDITIONAL if i in conditional else _LENGTH
        for i in range(features)
    ]
    return np.array([_SIGNAL, _NOISE, _TREND, *lengths])


def medians(priors: Priors, trended: int = 0) -> Hyperparameters:
    """The hyperparameters at the medians of the priors."""
    signal, noise, trend, *lengths = np.exp(priors[:, 0])
    return Hyperparameters(float(signal), float(noise), np.array(lengths), float(trend) if trended else 0.0)


@dataclass(frozen=True, kw_only=True)
class TransferPrior:
    """Log-normal priors, which depend on the gene that a feature represents.

    Attributes:
        signal: variance of the process, where that of the targets is 1.
        noise: variance of what the features do not explain.
        lengths: length scales of genes by their name; a feature's range is about 1.
        others: length scales of all other genes.
        mean: length scales of a gene's mean over the blocks.
        later: increase of the logarithm of a length from each block to the next.
    """

    signal: LogNormal
    noise: LogNormal
    lengths: Mapping[str, LogNormal] = field(default_factory=dict)
    others: LogNormal
    mean: LogNormal
    later: float = 0.0

    def of(self, feature: Feature) -> LogNormal:
        """The length scale of one feature."""
        if feature.mean:
            return self.mean
        median, deviation = self.lengths.get(feature.gene, self.others)
        return median * float(np.exp(self.later * (feature.block or 0))), deviation


# Medians are rounded, and deviations are wider than the tables' own, since another supernet may differ. The
# noise of accuracies is larger than the tables', since many evaluations use fewer images.
COST = TransferPrior(
    signal=(30.0, 1.2),
    noise=(1e-5, 2.0),
    lengths={"num_heads": (60.0, 1.0), "mlp_ratio": (50.0, 1.0)},
    others=(13.0, 0.8),
    mean=(30.0, 1.3),
)
ROUGH_ACCURACY = TransferPrior(
    signal=(0.6, 0.4),
    noise=(0.01, 1.5),
    lengths={
        "embed_dim": (0.5, 0.5),
        "time_steps": (0.65, 0.5),
        "depth": (12.0, 1.0),
        "num_heads": (20.0, 1.2),
        "mlp_ratio": (15.0, 1.2),
    },
    others=(1.5, 1.2),  # neurons
    mean=(20.0, 1.0),
    later=0.7,
)
SMOOTH_ACCURACY = TransferPrior(
    signal=(4.0, 1.0),
    noise=(0.01, 1.5),
    lengths={
        "embed_dim": (5.0, 0.8),
        "time_steps": (5.0, 0.8),
        "depth": (3.0, 0.8),
        "num_heads": (30.0, 1.0),
        "mlp_ratio": (30.0, 1.0),
    },
    others=(2.0, 1.0),
    mean=(2.0, 1.3),
    later=0.2,
)


def transfer_priors(
    genome: Genome | None,
    features: int,
    *,
    logarithm: bool,
    conditional: Collection[int] = (),
    fine: Collection[int] = (),
) -> list[Priors]:
    """Candidate priors of a process, from which its targets choose; weak ones without a search space.

    Args:
        genome: the genome that the first features represent.
        features: their number; those after the genome's own get weak priors.
        logarithm: whether targets are logarithms, as for costs.
        conditional: features that only some designs have.
        fine: features with many values. This and ``conditional`` are not used for a
            :class:`~aspk.space.SearchSpace`, about which more is known.
    """
    if not isinstance(genome, SearchSpace):
        return [weak_priors(features, conditional=conditional, fine=fine)]
    cases = (COST,) if logarithm else (ROUGH_ACCURACY, SMOOTH_ACCURACY)
    return [_priors(case, columns(genome), features) for case in cases]


def _priors(case: TransferPrior, known: list[Feature], features: int) -> Priors:
    priors = weak_priors(features)
    rows = [(case.signal, _SIGNAL_BOUNDS), (case.noise, _NOISE_BOUNDS)]
    lengths = [(case.of(feature), _LENGTH_BOUNDS) for feature in known]
    places = [0, 1, *range(3, 3 + len(known))]  # 2 is the trend
    for place, ((median, deviation), bounds) in zip(places, rows + lengths, strict=True):
        priors[place] = np.log(median), deviation, *bounds
    return priors

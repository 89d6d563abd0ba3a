"""Surrogate-assisted search: candidates are screened by predictors, and only the best become trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from aspk.costs.features import FreeFeature, FreeFeatures
from aspk.costs.values import NetworkFunction
from aspk.errors import SamplerError
from aspk.objectives.composite import Composite
from aspk.samplers._base import (
    PROPOSING,
    GenotypeSampler,
    as_space,
    check_counts,
    check_functions,
    needs_space,
)
from aspk.samplers._broken import set_aside
from aspk.samplers._codec import Codec
from aspk.samplers._coordinate import ParameterValue
from aspk.samplers._history import History
from aspk.samplers._inferred import FEWEST
from aspk.samplers._known import agreed_composites, agreed_objectives
from aspk.samplers._pool import evolve, unseen
from aspk.samplers._recommended import recommended
from aspk.samplers._start import start, visits
from aspk.samplers.nsga2 import Breeder
from aspk.space import SearchSpace
from aspk.space.operators import Genome, Genotypes, keys, sample
from aspk.surrogate.removed import check_model
from aspk.util.pareto import FloatArray, within_reach

if TYPE_CHECKING:
    from aspk.samplers._model import Fits, StudyModel

_FIRST = 6  # networks that a search starts with
_FIRST_OF_SPIKFORMERS = 4  # whose models have transfer priors
_RECOMMENDED = 2  # networks that each prior study recommends, before those
_VISITS, _SAMPLES = 2, 256  # of each branch before the model is used; random designs to find it among


class SurrogateSampler(GenotypeSampler):
    """Predicts each objective with a Gaussian process, and proposes what promises most hypervolume.

    1. The first trials are a Latin hypercube over the genes, with both cheap and expensive networks.
    2. Each objective that is not ``known`` is learnt by an :class:`~aspk.surrogate.AccuracySurrogate` from
       the genes, and from free ``features`` if there are any; of ``composites``, the parts are learnt. With
       ``space``, learning starts from transfer priors from other spiking transformers, see
       :mod:`aspk.surrogate.priors`.
    3. Candidates are evolved on the predicted values, from the best trials, their mutants and random
       networks.
    4. Of those not seen yet, the one with the largest expected improvement of the hypervolume is proposed.
       The posterior is conditioned on the means of the candidates chosen before it in a batch, and of the
       trials that other workers are running.

    The hypervolume's reference point lies a tenth behind the worst values of the front, observed or
    predicted; with a single objective, the improvement is over the best trial. Constraints are learnt from
    their values, as objectives are, unless they are a bound on something learnt anyway, and failures are
    learnt from failed trials; the improvement is multiplied by the predicted probability that a candidate is
    feasible. While no trial is feasible, the candidate most likely to be is proposed. Known constraints are
    kept from the start. If nothing can be learnt, NSGA-II proposes instead, with a warning.
    """

    def __init__(
        self,
        *,
        space: SearchSpace | str | Path | None = None,
        seed: int | None = None,
        n_startup_trials: int | None = None,
        pool_size: int = 300,
        population_size: int = 20,
        known: Mapping[int, NetworkFunction] | None = None,
        known_constraints: Mapping[str, NetworkFunction] | None = None,
        defaults: Mapping[str, ParameterValue] | None = None,
        composites: Mapping[int, Composite] | None = None,
        features: Sequence[FreeFeature | Literal["operations"]] | None = None,
        prior_studies: Sequence[Study] = (),
        cost: NetworkFunction | str | None = None,
        model: str | None = None,
    ) -> None:
        """Make a sampler.

        Args:
            space: see :class:`GenotypeSampler`.
            seed: see :class:`GenotypeSampler`.
            n_startup_trials: networks that it starts with, at least 2. None means 4 with
                ``space``, where surrogates start from transfer priors, else 6.
            pool_size: candidates whose improvement is computed for one suggestion, at least 10.
            population_size: best trials that the candidates descend from, at least 2.
            known: known objectives, which need no evaluation, such as parameters or operations: maps an
                objective's number to a function of the network that gives its value, as trials carry it;
                needs ``space``. One that a trial contradicts is learnt instead, with a warning.
            known_constraints: see :class:`GenotypeSampler`.
            defaults: see :class:`GenotypeSampler`.
            composites: maps an objective's number to a known function of numbers that the trials carry as
                user attributes; these are learnt, and the function is applied to them. If a trial lacks one
                of them, or contradicts the function, the objective is learnt as a whole, with a warning.
            prior_studies: earlier studies of the same objectives, in the same space or another one that
                shares networks with it, as they are when the sampler is made. Each recommends two networks
                to begin with, and for each objective the one that explains the new trials best is learnt
                from, if any explains them better than none does.
            cost: what an evaluation costs, so that the improvement is one per unit of cost: a function of the
                network, such as :class:`~aspk.costs.known.Cost`, which needs ``space``, or the name of a user
                attribute, which is learnt from complete trials. ``"seconds"`` is how long a trial took, if no
                attribute says otherwise. None if all cost the same.
            features: what is known of a network without evaluating it and helps to predict: functions of a
                network to a few numbers, or ``"operations"``, see
                :class:`~aspk.costs.features.LogOperations`; needs ``space``. They choose the networks to
                start with, and the surrogates learn from them. With None, the operations choose if
                there is a space, and only the genes are learnt from; ``()`` uses no features. A function is
                called for hundreds of networks before each trial, once for each.
            model: an option of the last release, of which only ``"process"`` is left; it warns.

        Raises:
            SamplerError: a number is out of range, or functions of a network without ``space``.
        """
        space = as_space(space)
        if not all(isinstance(composite, Composite) for composite in (composites or {}).values()):
            raise SamplerError(f"composites={composites!r}: expected a mapping to aspk.Composite")
        try:
            check_model(model)
        except ValueError as error:
            raise SamplerError(str(error)) from None
        check_functions("known", known)
        self._composites = dict(composites or {})
        if cost is not None and not isinstance(cost, str) and not callable(cost):
            raise SamplerError(f"cost={cost!r}: expected a function of a network, or a user attribute's name")
        self._cost = cost
        read = dict.fromkeys(name for composite in self._composites.values() for name in composite.parts)
        if isinstance(cost, str):
            read[cost] = None
        super().__init__(
            space=space,
            seed=seed,
            known_constraints=known_constraints,
            attributes=list(read),
            defaults=defaults,
            prior_studies=prior_studies,
        )
        if n_startup_trials is None:
            n_startup_trials = _FIRST if space is None else _FIRST_OF_SPIKFORMERS
        check_counts(
            n_startup_trials=(n_startup_trials, 2),
            pool_size=(pool_size, 10),
            population_size=(population_size, 2),
        )
        needs_space(space, known=known, features=features, cost=None if isinstance(cost, str) else cost)
        self._startup = n_startup_trials
        self._pool_size = pool_size
        self._population_size = population_size
        self._known = dict(known or {})
        self._free = None if space is None else FreeFeatures(space, features or ())
        self._start_by = (
            FreeFeatures(space, ("operations",)) if space is not None and features is None else self._free
        )
        self._fits: Fits = {}
        self._first_of_priors: tuple[Genome, Genotypes] | None = None

    def propose(self, genome: Genome, history: History, count: int, rng: np.random.Generator) -> Genotypes:
        """See :class:`GenotypeSampler`."""
        return self._choice(genome, history, count, rng)[0]

    def expected_gain(self, study: Study, trials: Sequence[FrozenTrial] | None = None) -> float | None:
        """By what share of its hypervolume the next evaluation is expected to improve a study.

        Trials that are running count as evaluated with their predicted values. With one objective, it is the
        expected improvement as a share of the range of the values observed.

        Args:
            study: the study.
            trials: those of its trials that count; None means all.

        Returns:
            At least 0; None while nothing is predicted, or nothing feasible was found.
        """
        known = study.get_trials(deepcopy=False) if trials is None else trials
        with PROPOSING:
            codec: Codec = self._space or self._inference.codec(known)
            if not codec.distributions:
                return None
            history, rng = self._history(study, codec, known), np.random.default_rng([self._seed, len(known)])
            gains = self._choice(codec.genome, history, 1, rng)[1]
        return float(gains[0]) if gains is not None and np.isfinite(gains).all() else None

    def _choice(
        self, genome: Genome, history: History, count: int, rng: np.random.Generator
    ) -> tuple[Genotypes, FloatArray | None]:
        """The next networks, and what each is expected to gain, if it was predicted."""
        self._check_objectives(len(history.directions))
        # While some parameters are unexplained, the search would learn only from the others, and give up a
        # choice because of what the first trials with it happened to draw.
        first = self._startup if history.whole else max(self._startup, FEWEST)
        first += _RECOMMENDED * len(history.priors)
        if len(history) == 0 or len(history) + len(history.pending) < first:
            return self._start(genome, history, count, rng), None
        if history.branches and len(X := self._hardly_visited(genome, history, count, rng)) == count:
            return X, None
        # It imports SciPy's linear algebra and optimisers, which other samplers do not need.
        from aspk.samplers._acquisition import choose  # noqa: PLC0415  # on use

        bounds, history = self.bounded(genome, history)
        total = len(history)
        history = set_aside(replace(history, values=within_reach(history.values)), genome)
        if len(history) < total:
            text = f"{total - len(history)} of {total} lie far behind all others in an objective, all alike"
            self._notices.warn("some trials count as failed", text)
        try:
            model = self._model(genome, history)
        except (SamplerError, ValueError, np.linalg.LinAlgError) as error:
            say = self._notices.warn if len(history) >= self._startup else self._notices.mention
            say("no surrogate, NSGA-II instead", str(error))
            breed = Breeder(genome, history, self._population_size, 0.9)
            return bounds.fill(count, lambda number: breed(number, rng), rng, seen=history.designs), None
        X, values = evolve(
            genome,
            history,
            model.predict,
            self._population_size,
            rng,
            violation=lambda X: model.violation(X) + bounds.excess(X),
        )
        new, kept = unseen(genome, X, history.designs), bounds.keeps(X)
        rows = [row for row in new if kept[row]]
        if len(rows) < count:
            nearest = bounds.nearest_first(X)
            return bounds.fill(count, lambda _: nearest, rng, seen=history.designs), None
        size, cost = max(self._pool_size, count), self._cost_of(genome, history, model)
        chosen = choose(X[rows], values[rows], history, model, size, count, cost)
        return chosen.X, chosen.gains

    def _check_objectives(self, count: int) -> None:
        """Refuse functions for objectives that a study with ``count`` of them does not have."""
        for option, given in (("known", self._known), ("composites", self._composites)):
            for number in given:
                if number not in range(count):
                    raise SamplerError(
                        f"{option}={{{number!r}: ...}}: expected the number of an objective of the study, "
                        f"from 0 to {count - 1}"
                    )

    def _model(self, genome: Genome, history: History) -> StudyModel:
        """The model of the study; functions that a trial contradicts are not part of it."""
        from aspk.samplers._model import fit_study  # noqa: PLC0415  # on use, as in propose

        if self._composites:  # a pruned trial's attributes are not final
            history = history.of(history.complete)
        return fit_study(
            genome,
            history,
            known=agreed_objectives(self._known, genome, history, self._known_values, self._notices),
            composites=agreed_composites(self._composites, history, self._notices),
            free=self._free,
            first=self._startup,
            fits=self._fits,
            cost=self._cost if isinstance(self._cost, str) else None,
        )

    def _cost_of(
        self, genome: Genome, history: History, model: StudyModel
    ) -> Callable[[Genotypes], FloatArray] | None:
        """What evaluations of genotypes cost, if that is known or learnt."""
        function = self._cost
        if isinstance(function, str):
            values = history.attributes[function]
            if len(values) >= self._startup and not (values > 0).any():
                self._notices.warn(
                    f"cost={function!r} is left out", "no trial has a user attribute of that name above 0"
                )
        if function is None or isinstance(function, str):
            return None if model.cost is None else model.cost.predict

        def cost(X: Genotypes) -> FloatArray:
            values = self._known_values.of(genome, ("cost",), function, X)
            if not (np.isfinite(values) & (values > 0)).all():
                wrong = values[~(np.isfinite(values) & (values > 0))][0]
                raise SamplerError(f"cost= gives {wrong:g} for a network: expected numbers above 0")
            return values

        return cost

    def _hardly_visited(
        self, genome: Genome, history: History, count: int, rng: np.random.Generator
    ) -> Genotypes:
        """Up to ``count`` new designs in hardly visited branches, the rarest first."""
        X = sample(genome, _SAMPLES, rng)
        X = X[unseen(genome, X, history.designs)]
        times = visits(genome, X, _visited(history), history.branches)
        return X[np.argsort(times, kind="stable")[: min(count, int((times < _VISITS).sum()))]]

    def _start(self, genome: Genome, history: History, count: int, rng: np.random.Generator) -> Genotypes:
        """The next points of a design, the same in every process; after it, random networks.

        If genotypes do not hold all parameters, those whose choices were visited least come first.
        """
        first, (bounds, _) = np.random.default_rng(self._seed), self.bounded(genome, history)
        design = start(genome, self._startup, first, self._start_by)
        if history.priors:
            design = np.concatenate([self._recommended(genome, history), design])
        design = bounds.kept_by(design, first)
        unordered, seen = np.flatnonzero(~genome.ordered).tolist(), history.designs
        if not history.whole:  # new designs are worth more than repeated ones
            seen = seen | set(keys(genome, _visited(history)))

        def candidates(number: int) -> Genotypes:
            if history.whole or not unordered:
                return np.concatenate([design, bounds.kept_by(sample(genome, number, rng), rng)])
            X = np.concatenate([design, sample(genome, _SAMPLES, rng)])
            return X[np.argsort(visits(genome, X, _visited(history), unordered), kind="stable")]

        return bounds.fill(count, candidates, rng, seen=seen)

    def _recommended(self, genome: Genome, history: History) -> Genotypes:
        """Networks that the prior studies recommend to begin with, shape (n, G)."""
        if self._first_of_priors is None or self._first_of_priors[0] != genome:
            from aspk.samplers._model import fit_study  # noqa: PLC0415  # on use, as in propose

            found = [
                recommended(
                    genome,
                    prior,
                    fit_study(
                        genome, prior, known={}, composites={}, free=self._free, first=len(prior), fits={}
                    ).predict,
                    self._population_size,
                    _RECOMMENDED,
                    np.random.default_rng(self._seed),
                )
                for prior in history.priors
            ]
            self._first_of_priors = genome, np.concatenate(found)
        return self._first_of_priors[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_fits": {}, "_first_of_priors": None}


def _visited(history: History) -> Genotypes:
    """Genotypes of all trials, shape (n + m + d, G)."""
    return np.concatenate([history.X, history.pending, history.discarded])

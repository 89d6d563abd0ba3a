"""What the tests of the samplers share."""

import math

import optuna
import pytest

from aspk.samplers import EvolutionarySampler, NSGA2Sampler, SurrogateSampler
from aspk.space.file import load_space
from aspk.testing import FormulaEvaluator, tiny_space
from aspk.util.pareto import hypervolume

optuna.logging.set_verbosity(optuna.logging.ERROR)

TINY = tiny_space()
PAPER = load_space("auto_spikformer")
MAKERS = {
    "evolutionary": lambda **options: EvolutionarySampler(population_size=8, top_k=4, **options),
    "nsga2": lambda **options: NSGA2Sampler(population_size=8, **options),
    "surrogate": lambda **options: SurrogateSampler(n_startup_trials=8, pool_size=60, **options),
}
every_sampler = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def create(sampler, directions=("maximize", "minimize"), **options):
    return optuna.create_study(sampler=sampler, directions=list(directions), **options)


def values(metrics):
    return [metrics.accuracy, math.log10(metrics.energy_mj)]


def search(study, sampler, count, *, space=TINY, batch=8, constraint=None):
    """Run ``count`` trials on the formula in batches."""
    evaluator = FormulaEvaluator(space)
    while count > 0:
        trials = sampler.ask_batch(study, min(batch, count))
        count -= len(trials)
        for trial, metrics in zip(
            trials, evaluator.evaluate([space.suggest(t) for t in trials]), strict=True
        ):
            if constraint is not None:
                trial.set_constraint(constraint.name, constraint(metrics))
            study.tell(trial, values(metrics))
    return study


def networks(study, space=TINY):
    return [space.decode(space.from_parameters(t.params)) for t in study.trials]


def formula_hypervolume(study, space):
    metrics = FormulaEvaluator(space).evaluate(networks(study, space))
    top = math.log10(FormulaEvaluator(space).evaluate([space.largest])[0].energy_mj)
    return hypervolume([[-m.accuracy, math.log10(m.energy_mj) - top] for m in metrics], [0, 0])


class Recording(NSGA2Sampler):
    """Remembers what it was given."""

    def propose(self, genome, history, count, rng):
        self.history = history
        return super().propose(genome, history, count, rng)

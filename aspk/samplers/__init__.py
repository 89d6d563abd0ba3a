"""Optuna samplers on genotypes: they need neither a supernet nor a search space, but use one if given."""

import importlib

from aspk.samplers._base import GenotypeSampler
from aspk.samplers._codec import gene_distribution
from aspk.samplers._history import History
from aspk.samplers.early import chance_of_improvement, report, should_stop
from aspk.samplers.evolutionary import EvolutionarySampler
from aspk.samplers.nsga2 import NSGA2Sampler
from aspk.samplers.random import RandomSampler
from aspk.samplers.stopping import ImprovementStopper
from aspk.samplers.surrogate_assisted import SurrogateSampler
from aspk.spec.samplers import SAMPLERS

__all__ = [
    "EvolutionarySampler",
    "GenotypeSampler",
    "History",
    "ImprovementStopper",
    "NSGA2Sampler",
    "RandomSampler",
    "SurrogateSampler",
    "chance_of_improvement",
    "gene_distribution",
    "report",
    "sampler_class",
    "should_stop",
]


def sampler_class(name: str) -> type[GenotypeSampler]:
    """The class of a sampler of :data:`aspk.spec.samplers.SAMPLERS`.

    Args:
        name: its name in study files, such as ``nsga2``.
    """
    module, _, kind = SAMPLERS[name].rpartition(".")
    found: type[GenotypeSampler] = getattr(importlib.import_module(module), kind)
    return found

"""Optuna samplers on genotypes: they need neither a supernet nor a search space, but use one if given."""

from aspk.samplers._base import GenotypeSampler
from aspk.samplers._codec import gene_distribution
from aspk.samplers._history import History
from aspk.samplers.evolutionary import EvolutionarySampler
from aspk.samplers.nsga2 import NSGA2Sampler
from aspk.samplers.random import RandomSampler
from aspk.samplers.surrogate_assisted import SurrogateSampler

__all__ = [
    "EvolutionarySampler",
    "GenotypeSampler",
    "History",
    "NSGA2Sampler",
    "RandomSampler",
    "SurrogateSampler",
    "gene_distribution",
]

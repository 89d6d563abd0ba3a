"""Surrogate-assisted multi-objective search on discrete, conditional and mixed spaces."""

from aspk.samplers import SurrogateSampler

__all__ = ["SurrogateSampler"]

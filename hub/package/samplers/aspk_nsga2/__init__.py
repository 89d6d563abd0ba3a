"""NSGA-II for discrete and conditional spaces, with any complete trial of the study as a parent."""

from aspk.samplers import NSGA2Sampler

__all__ = ["NSGA2Sampler"]

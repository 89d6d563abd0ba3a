"""A weight-entangled Spikformer, stem included."""

from aspk.families.neurons import lif
from aspk.families.spikformer import Observer, Spikformer, calibrate
from aspk.families.supernet import Statistics, Supernet

__all__ = ["Observer", "Spikformer", "Statistics", "Supernet", "calibrate", "lif"]

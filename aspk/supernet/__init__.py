"""A weight-entangled Spikformer, stem included."""

from aspk.supernet.neurons import lif
from aspk.supernet.spikformer import Observer, Spikformer, calibrate
from aspk.supernet.supernet import Statistics, Supernet

__all__ = ["Observer", "Spikformer", "Statistics", "Supernet", "calibrate", "lif"]

"""aspk: multi-objective search for spiking transformers on Optuna and pymoo."""

from __future__ import annotations

__version__ = "0.1.0"

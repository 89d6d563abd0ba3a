"""The samplers by the names that study files and ``--sampler`` use.

To add one, write a module with a subclass of :class:`aspk.samplers.GenotypeSampler`, and add a line here.
"""

from __future__ import annotations

from collections.abc import Mapping

# Each sampler's class, imported when it is used: the names alone need neither Optuna nor a sampler.
SAMPLERS: Mapping[str, str] = {
    "surrogate": "aspk.samplers.surrogate_assisted.SurrogateSampler",
    "nsga2": "aspk.samplers.nsga2.NSGA2Sampler",
    "evolutionary": "aspk.samplers.evolutionary.EvolutionarySampler",
    "random": "aspk.samplers.random.RandomSampler",
}

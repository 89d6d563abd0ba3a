"""aspk: multi-objective search for spiking transformers on Optuna and pymoo.

Public names are loaded when they are first used: ``import aspk`` alone loads neither torch nor scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "BlockConfig": "aspk.config",
    "NetworkSettings": "aspk.config",
    "SubnetConfig": "aspk.config",
    "SearchSpace": "aspk.space",
    "load_space": "aspk.space_file",
    "LayerCount": "aspk.metrics",
    "Metrics": "aspk.metrics",
    "EnergyModel": "aspk.energy",
    "energy_mj": "aspk.energy",
    "energy_table": "aspk.energy",
    "load_energy_model": "aspk.energy",
    "profile_energy": "aspk.profiling",
    "Composite": "aspk.composite",
    "Constraint": "aspk.objectives",
    "Objective": "aspk.objectives",
    "FAEB": "aspk.scalarization",
    "Evaluator": "aspk.evaluation",
    "CachedEvaluator": "aspk.evaluation",
    "DataSettings": "aspk.settings",
    "load_data": "aspk.data",
    "Supernet": "aspk.supernet",
    "Spikformer": "aspk.supernet",
    "Recipe": "aspk.settings",
    "train_supernet": "aspk.training",
    "SupernetEvaluator": "aspk.evaluator",
    "AccuracySurrogate": "aspk.surrogate",
    "ClosedBudget": "aspk.closed_cost",
    "ClosedCost": "aspk.closed_cost",
    "LogOperations": "aspk.free_features",
    "SpikformerProblem": "aspk.problem",
    "StudySpec": "aspk.study_file",
    "load_study_file": "aspk.study_file",
    "run_study": "aspk.study",
    "load_exported": "aspk.export",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604  # names that __getattr__ below resolves


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name stands for
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'aspk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

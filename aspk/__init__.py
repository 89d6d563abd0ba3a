"""aspk: multi-objective search for spiking transformers on Optuna and pymoo.

Public names are loaded when they are first used: ``import aspk`` alone loads neither torch nor scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import Any

from aspk.util import moved

__version__ = "0.1.0"

_HOME = {
    "BlockConfig": "aspk.space.genes",
    "NetworkSettings": "aspk.space.genes",
    "SubnetConfig": "aspk.space.genes",
    "SearchSpace": "aspk.space",
    "load_space": "aspk.space.file",
    "LayerCount": "aspk.metrics",
    "Metrics": "aspk.metrics",
    "EnergyModel": "aspk.energy",
    "energy_mj": "aspk.energy",
    "energy_table": "aspk.energy",
    "load_energy_model": "aspk.energy",
    "profile_energy": "aspk.profiling",
    "Composite": "aspk.objectives.composite",
    "Constraint": "aspk.objectives",
    "Objective": "aspk.objectives",
    "FAEB": "aspk.objectives.scalarization",
    "Evaluator": "aspk.evaluation",
    "CachedEvaluator": "aspk.evaluation",
    "DataSettings": "aspk.spec.settings",
    "load_data": "aspk.data",
    "Supernet": "aspk.families",
    "Spikformer": "aspk.families",
    "Recipe": "aspk.spec.settings",
    "train_supernet": "aspk.training",
    "SupernetEvaluator": "aspk.evaluation.supernet",
    "AccuracySurrogate": "aspk.surrogate",
    "Cost": "aspk.costs.known",
    "CostConstraint": "aspk.costs.known",
    "LogOperations": "aspk.costs.features",
    "SpikformerProblem": "aspk.problem",
    "StudySpec": "aspk.spec.study",
    "load_study_file": "aspk.spec.study",
    "run_study": "aspk.study",
    "load_supernet": "aspk.training.checkpoint",
    "export_network": "aspk.standalone.export",
    "load_exported": "aspk.standalone.export",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604  # names that __getattr__ below resolves

moved.install()
_renamed = moved.moved_names(__name__, {"ClosedBudget": "aspk:CostConstraint", "ClosedCost": "aspk:Cost"})


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name refers to
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    return _renamed(name)


def __dir__() -> list[str]:
    return sorted(__all__)

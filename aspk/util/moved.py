"""Module paths of the last release: importable for one more release, with a warning of the new path."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED: Mapping[str, str] = {
    "aspk.arguments": "aspk.cli.arguments",
    "aspk.attributes": "aspk.trials.attributes",
    "aspk.checkpoint": "aspk.training.checkpoint",
    "aspk.closed_cost": "aspk.costs.known",
    "aspk.closed_forms": "aspk.costs.bounds",
    "aspk.composite": "aspk.objectives.composite",
    "aspk.config": "aspk.space.genes",
    "aspk.cost": "aspk.costs.cost",
    "aspk.dashboard": "aspk.report.dashboard",
    "aspk.device": "aspk.engines.device",
    "aspk.dry_run": "aspk.study.dry_run",
    "aspk.energy_report": "aspk.report.energy",
    "aspk.energy_report.command": "aspk.cli.account",
    "aspk.energy_report.output": "aspk.report.energy.output",
    "aspk.energy_report.rebilling": "aspk.report.energy.rebilling",
    "aspk.energy_report.sources": "aspk.report.energy.sources",
    "aspk.evaluator": "aspk.evaluation.supernet",
    "aspk.export": "aspk.standalone.export",
    "aspk.files": "aspk.util.files",
    "aspk.free_features": "aspk.costs.features",
    "aspk.interrupt": "aspk.util.interrupt",
    "aspk.live_commands": "aspk.cli.trust",
    "aspk.native": "aspk.families.native",
    "aspk.native.build": "aspk.families.native.build",
    "aspk.native.neurons": "aspk.families.native.neurons",
    "aspk.operators": "aspk.space.operators",
    "aspk.pareto": "aspk.util.pareto",
    "aspk.ranking": "aspk.standalone",
    "aspk.ranking.alone": "aspk.standalone.job",
    "aspk.ranking.statistics": "aspk.trials.verdict",
    "aspk.ranking.study": "aspk.standalone.ranking",
    "aspk.recipe_file": "aspk.spec.recipe",
    "aspk.result_cache": "aspk.evaluation.cache",
    "aspk.retraining": "aspk.standalone.retraining",
    "aspk.retry": "aspk.study.retry",
    "aspk.scalarization": "aspk.objectives.scalarization",
    "aspk.search_commands": "aspk.cli.tables",
    "aspk.settings": "aspk.spec.settings",
    "aspk.shipped": "aspk.util.shipped",
    "aspk.space_file": "aspk.space.file",
    "aspk.stock": "aspk.cli.stock",
    "aspk.storage": "aspk.study.storage",
    "aspk.study.question": "aspk.study.problem",
    "aspk.study_file": "aspk.spec.study",
    "aspk.supernet": "aspk.families",
    "aspk.supernet.counting": "aspk.families.counting",
    "aspk.supernet.neurons": "aspk.families.neurons",
    "aspk.supernet.products": "aspk.families.products",
    "aspk.supernet.random_weights": "aspk.families.random_weights",
    "aspk.supernet.spikformer": "aspk.families.spikformer.network",
    "aspk.supernet.supernet": "aspk.families.supernet",
    "aspk.surrogate.experience": "aspk.surrogate.priors",
    "aspk.surrogate.predictor": "aspk.surrogate.model",
    "aspk.testing.building": "aspk.tables.building",
    "aspk.testing.table": "aspk.tables.table",
    "aspk.training_commands": "aspk.cli.networks",
    "aspk.workers": "aspk.study.workers",
}


def install() -> None:
    """Make the old paths in :data:`MOVED` importable; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def moved_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for names that moved to other modules.

    Args:
        module: the module that had them.
        names: the module that now has each name; ``module:name`` if the name has changed, too.
    """

    def find(name: str) -> Any:  # noqa: ANN401  # whatever the name refers to
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = names[name].partition(":")
        _warn(f"{module}.{name}", f"{home}.{new or name}")
        return getattr(importlib.import_module(home), new or name)

    return find


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is now {new}; the old path will be removed in the next release", FutureWarning, stacklevel=3
    )


class _Finder(MetaPathFinder):
    """Consulted first: below a moved package, the path finder would load its modules a second time."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Alias(MOVED[fullname])) if fullname in MOVED else None


class _Alias(Loader):
    """Puts the module itself, not a copy, under its old name: classes and patches are the same in both."""

    def __init__(self, new: str) -> None:
        self._new = new
        self._own: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        _warn(spec.name, self._new)
        module = importlib.import_module(self._new)
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own  # the import system has put the old name's there

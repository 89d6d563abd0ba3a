"""Running a study: create it or go on with it, ask in batches, evaluate, tell.

Names are loaded when they are first used: commands that only read a study load neither torch nor a supernet.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aspk.study.loop import SearchResult, evaluate_trial, run_study
    from aspk.study.problem import (
        Question,
        ask_question,
        check_bounds,
        evaluator_of,
        inherited_accuracies,
        question,
        supernet_of,
    )
    from aspk.study.record import check_sampler, create_or_resume, make_sampler
    from aspk.study.replay import Reproduction, reproduce

__all__ = [
    "Question",
    "Reproduction",
    "SearchResult",
    "ask_question",
    "check_bounds",
    "check_sampler",
    "create_or_resume",
    "evaluate_trial",
    "evaluator_of",
    "inherited_accuracies",
    "make_sampler",
    "question",
    "reproduce",
    "run_study",
    "supernet_of",
]

_HOME = {
    "loop": ("SearchResult", "evaluate_trial", "run_study"),
    "record": ("check_sampler", "create_or_resume", "make_sampler"),
    "replay": ("Reproduction", "reproduce"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name stands for
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((module for module, names in _HOME.items() if name in names), "problem")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)

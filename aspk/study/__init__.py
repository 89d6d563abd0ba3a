"""Running a study: create or resume it, ask in batches, evaluate, tell.

Names are loaded when they are first used: commands that only read a study load neither torch nor a supernet.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aspk.util.moved import moved_names

if TYPE_CHECKING:
    from aspk.study.loop import SearchResult, evaluate_trial, run_study
    from aspk.study.problem import (
        StudyProblem,
        check_bounds,
        evaluator_of,
        inherited_accuracies,
        load_problem,
        study_problem,
        supernet_of,
    )
    from aspk.study.record import create_or_resume
    from aspk.study.replay import Reproduction, reproduce
    from aspk.study.sampler import check_sampler, make_sampler

__all__ = [
    "Reproduction",
    "SearchResult",
    "StudyProblem",
    "check_bounds",
    "check_sampler",
    "create_or_resume",
    "evaluate_trial",
    "evaluator_of",
    "inherited_accuracies",
    "load_problem",
    "make_sampler",
    "reproduce",
    "run_study",
    "study_problem",
    "supernet_of",
]

_renamed = moved_names(
    __name__,
    {
        "Question": "aspk.study:StudyProblem",
        "ask_question": "aspk.study:load_problem",
        "question": "aspk.study:study_problem",
    },
)

_HOME = {
    "loop": ("SearchResult", "evaluate_trial", "run_study"),
    "record": ("create_or_resume",),
    "sampler": ("check_sampler", "make_sampler"),
    "replay": ("Reproduction", "reproduce"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name stands for
    if name not in __all__:
        return _renamed(name)
    home = next((module for module, names in _HOME.items() if name in names), "problem")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)

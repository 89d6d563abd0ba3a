"""Running a study: create it or go on with it, ask in batches, evaluate, tell."""

from aspk.study.loop import SearchResult, evaluate_trial, run_study
from aspk.study.question import (
    Question,
    ask_question,
    check_bounds,
    evaluator_of,
    inherited_accuracies,
    question,
    supernet_of,
)
from aspk.study.record import create_or_resume, make_sampler
from aspk.study.replay import Reproduction, reproduce

__all__ = [
    "Question",
    "Reproduction",
    "SearchResult",
    "ask_question",
    "check_bounds",
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

"""Evaluating networks: the protocol of every evaluator, caches, and the evaluator of a trained supernet.

``SupernetEvaluator`` is in :mod:`aspk.evaluation.supernet`, so that the protocol needs no torch.
"""

from aspk.evaluation.protocol import CachedEvaluator, Evaluator, Progress, Result, evaluate_all

__all__ = ["CachedEvaluator", "Evaluator", "Progress", "Result", "evaluate_all"]

"""A predictor of accuracy and other numbers from genotypes, with its own doubt."""

from aspk.surrogate.estimator import AccuracySurrogate
from aspk.surrogate.features import features
from aspk.surrogate.validation import Skill, learning_curve, rank_correlation

__all__ = ["AccuracySurrogate", "Skill", "features", "learning_curve", "rank_correlation"]

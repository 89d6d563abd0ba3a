"""Training: the shared weights of a supernet, or one network alone."""

from aspk.training.network import EarlyStop, NetworkRun, train_network
from aspk.training.supernet import SupernetRun, TrainingResult, train_supernet

__all__ = ["EarlyStop", "NetworkRun", "SupernetRun", "TrainingResult", "train_network", "train_supernet"]

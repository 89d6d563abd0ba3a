"""What is known of a network without evaluating it: layers, parameters, operations, and bounds on them."""

from aspk.costs.bounds import Bounds, ClosedForms
from aspk.costs.features import LogOperations
from aspk.costs.known import ClosedBudget, ClosedCost

__all__ = ["Bounds", "ClosedBudget", "ClosedCost", "ClosedForms", "LogOperations"]

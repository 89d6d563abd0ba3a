"""What is known about a network without evaluating it: layers, parameters, operations, and bounds on them."""

from aspk.costs.bounds import KnownConstraints
from aspk.costs.features import LogOperations
from aspk.costs.known import Cost, CostConstraint
from aspk.costs.values import KnownValues
from aspk.util.moved import moved_names

__all__ = ["Cost", "CostConstraint", "KnownConstraints", "KnownValues", "LogOperations"]

__getattr__ = moved_names(
    __name__,
    {
        "Bounds": "aspk.costs:KnownConstraints",
        "ClosedBudget": "aspk.costs:CostConstraint",
        "ClosedCost": "aspk.costs:Cost",
        "ClosedForms": "aspk.costs:KnownValues",
    },
)

"""Things to test with: evaluators without a supernet, and the checks that any evaluator should pass."""

from aspk.space import SearchSpace
from aspk.space_file import load_space
from aspk.testing.building import build_table
from aspk.testing.conformance import check_evaluator
from aspk.testing.formula import FormulaEvaluator
from aspk.testing.table import Table, TabularEvaluator, load_table, shipped_tables, write_table

__all__ = [
    "FormulaEvaluator",
    "Table",
    "TabularEvaluator",
    "build_table",
    "check_evaluator",
    "load_table",
    "shipped_tables",
    "tiny_space",
    "write_table",
]


def tiny_space() -> SearchSpace:
    """The shipped space ``tiny``."""
    return load_space("tiny")

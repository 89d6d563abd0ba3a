"""Tools for tests: evaluators without a supernet, and the checks that any evaluator should pass."""

from aspk.space import SearchSpace, load_space
from aspk.testing.conformance import check_evaluator
from aspk.testing.formula import FormulaEvaluator
from aspk.util.moved import moved_names

__all__ = ["FormulaEvaluator", "check_evaluator", "tiny_space"]

__getattr__ = moved_names(
    __name__,
    dict.fromkeys(
        ("Table", "TabularEvaluator", "build_table", "load_table", "shipped_tables", "write_table"),
        "aspk.tables",
    ),
)


def tiny_space() -> SearchSpace:
    """The shipped space ``tiny``."""
    return load_space("tiny")

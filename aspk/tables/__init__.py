"""Enumerated benchmarks: every network of a small space with its metrics, so that the true front is known."""

from aspk.tables.building import build_table
from aspk.tables.table import (
    Table,
    TabularEvaluator,
    load_table,
    shipped_tables,
    shipped_trained_tables,
    write_table,
)
from aspk.tables.trained import TrainedTable

__all__ = [
    "Table",
    "TabularEvaluator",
    "TrainedTable",
    "build_table",
    "load_table",
    "shipped_tables",
    "shipped_trained_tables",
    "write_table",
]

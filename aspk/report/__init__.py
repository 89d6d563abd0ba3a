"""Reports: tables, figures and a page made from an Optuna study alone. Nothing is evaluated again."""

from aspk.report.page import write_report
from aspk.report.page.comparison import write_comparison
from aspk.report.selection import MARGIN, SELECTIONS, Pick, Selection, select, selection_text
from aspk.report.summary import Row, StudySummary, evaluations_to_reach, summarise
from aspk.report.tables import compare_text, no_front_text, pareto_text, statistics_text, write_csv

__all__ = [
    "MARGIN",
    "SELECTIONS",
    "Pick",
    "Row",
    "Selection",
    "StudySummary",
    "compare_text",
    "evaluations_to_reach",
    "no_front_text",
    "pareto_text",
    "select",
    "selection_text",
    "statistics_text",
    "summarise",
    "write_comparison",
    "write_csv",
    "write_report",
]

"""Energy accounts of networks and studies whose operations are already counted: tables, JSON, CSV, HTML."""

from aspk.report.energy.comparison import comparison_figure, comparison_html
from aspk.report.energy.output import account_html, account_json
from aspk.report.energy.rebilling import rebilled
from aspk.report.energy.sources import (
    NetworkAccount,
    exported_account,
    random_account,
    trial_account,
    weights_account,
)

__all__ = [
    "NetworkAccount",
    "account_html",
    "account_json",
    "comparison_figure",
    "comparison_html",
    "exported_account",
    "random_account",
    "rebilled",
    "trial_account",
    "weights_account",
]

"""Energy accounts of networks and studies that are already counted: tables, JSON, CSV, HTML."""

from aspk.energy_report.output import account_html, account_json
from aspk.energy_report.rebilling import rebilled
from aspk.energy_report.sources import (
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
    "exported_account",
    "random_account",
    "rebilled",
    "trial_account",
    "weights_account",
]

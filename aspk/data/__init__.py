"""Data sets in three splits with three names.

Weights and batch-normalisation statistics come from ``train``, a search evaluates on ``search``, and ``test``
is read once for each reported network.
"""

from aspk.data.generated import generated_data
from aspk.data.loading import load_data
from aspk.data.preprocess import Preprocess, preprocess_of
from aspk.data.registry import DATA_SETS
from aspk.data.splits import DataSet, Split, network_input, stratified_split

__all__ = [
    "DATA_SETS",
    "DataSet",
    "Preprocess",
    "Split",
    "generated_data",
    "load_data",
    "network_input",
    "preprocess_of",
    "stratified_split",
]

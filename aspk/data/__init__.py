"""Data sets in three splits with three names.

Weights and batch-normalisation statistics come from ``train``, a search looks at ``search``, and ``test`` is
read once for each reported network.
"""

from aspk.data.loading import load_data
from aspk.data.splits import DataSet, Split, stratified_split

__all__ = ["DataSet", "Split", "load_data", "stratified_split"]

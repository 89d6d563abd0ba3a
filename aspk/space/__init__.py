"""Search spaces: the genes, the networks they describe, files, and the operators that a search applies."""

from aspk.space.conditions import BoolArray, IntArray
from aspk.space.file import load_space, space_from_dict
from aspk.space.gene import Gene
from aspk.space.genes import BlockConfig, NetworkSettings, SubnetConfig
from aspk.space.space import SearchSpace

__all__ = [
    "BlockConfig",
    "BoolArray",
    "Gene",
    "IntArray",
    "NetworkSettings",
    "SearchSpace",
    "SubnetConfig",
    "load_space",
    "space_from_dict",
]

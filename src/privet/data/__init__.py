"""The data room: datasets by name or path, checked tables, and the papers' splits.

Nothing here imports torch, scikit-learn or Pillow until a dataset that needs one is loaded.
"""

from privet.data.cache import home
from privet.data.registry import DATASETS, Dataset, load, status
from privet.data.splits import membership_split, pruning_split, shadow_pool, train_fraction
from privet.data.table import Table

__all__ = [
    "DATASETS",
    "Dataset",
    "Table",
    "home",
    "load",
    "membership_split",
    "pruning_split",
    "shadow_pool",
    "status",
    "train_fraction",
]

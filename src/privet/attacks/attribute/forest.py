"""A random forest."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from privet.attacks.attribute.base import Guess, Known, Records
from privet.seeds import derive


@dataclass(frozen=True)
class RandomForest:
    """A random forest (RF-A).

    Parameters
    ----------
    trees
        Number of trees, each split on the best of sqrt(features) features.
    leaf
        Fewest users in a leaf: on sparse ratings, single users make deep trees that are slower
        and guess worse.
    """

    paper: str
    trees: int = 100
    leaf: int = 3
    needs_protection: ClassVar[bool] = False

    def fit(self, known: Known, *, seed: int) -> Guess:
        """Learn from users whose attribute is known; see `AttributeAttacker`."""
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(
            n_estimators=self.trees,
            min_samples_leaf=self.leaf,
            random_state=derive(seed, "forest") % 2**32,
            n_jobs=-1,
        ).fit(_narrow(known.records), known.labels)
        return lambda asked: np.asarray(forest.predict(_narrow(asked)))


def _narrow(records: Records) -> Records:
    """Return records as scikit-learn's trees take them: without 64-bit indices."""
    if isinstance(records, np.ndarray):
        return records
    rows = records.tocsr()
    parts = rows.data, rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
    return type(rows)(parts, shape=rows.shape)

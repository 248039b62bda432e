"""Gradient boosting on a handful of numbers about each answer: as strong as a network, in seconds.

No paper's own attack: the features are those of the threshold attacks (Song & Mittal 2021,
section 4) and their relatives, which trees weigh against each other. scikit-learn is imported
when the attack runs.
"""

import numpy as np

from privet.attacks.learned import Examples, Scorer
from privet.attacks.threshold import confidence, negative_entropy, negative_modified_entropy
from privet.errors import EvidenceError
from privet.signals import FloatArray, Signals

TREES, LEAVES, LEAST_IN_LEAF = 100, 4, 100
LEARNING_RATE, L2 = 0.05, 10.0


def output_features(signals: Signals) -> FloatArray:
    """Return seven numbers about each answer of one model; shape (samples, 7).

    Log confidence of the true class, minus entropy, minus modified entropy, log confidence of the
    predicted class, its lead over the second, the true class's lead over the best other (negative
    if wrong), and the number of classes ranked above the true one.

    Raises
    ------
    EvidenceError
        With a single class, which leads over none.
    """
    if signals.classes < 2:
        raise EvidenceError(f"output features need at least two classes; got {signals.classes}")
    log_p, labels = signals.log_confidences()[0], signals.labels[:, None]
    own = confidence(signals)[0]
    others = log_p.copy()
    np.put_along_axis(others, labels, -np.inf, axis=1)
    second, first = np.partition(log_p, -2, axis=1)[:, -2:].T
    return np.column_stack(
        [
            own,
            negative_entropy(signals)[0],
            negative_modified_entropy(signals)[0],
            first,
            first - second,
            own - others.max(axis=1),
            (log_p > own[:, None]).sum(axis=1),
        ]
    )


def boost(known: Examples, held: Examples, seed: int) -> Scorer:
    """Learn with small boosted trees, members and nonmembers weighing the same.

    A fixed number of trees: the held-out rows are for the threshold alone.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(
        class_weight="balanced",
        early_stopping=False,
        l2_regularization=L2,
        learning_rate=LEARNING_RATE,
        max_iter=TREES,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=min(LEAST_IN_LEAF, max(1, len(known.members) // 20)),
        random_state=seed % 2**32,
    )
    trees.fit(known.inputs, known.members)
    return lambda inputs: np.asarray(trees.decision_function(inputs))

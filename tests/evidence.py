"""Evidence whose leakage is known: made, not measured."""

import numpy as np

from privet.signals import Evidence, Signals


def make_evidence(
    leak: float, seed: int, *, samples: int = 2000, classes: int = 5, shadows: int = 4
) -> tuple[Evidence, np.ndarray]:
    """Return evidence and the truth; members' true-class logits are ``leak`` higher.

    Members are a third of the samples, so rules that profit from unbalanced pools show.
    """
    rng = np.random.default_rng(seed)

    def query(models: int) -> tuple[Signals, np.ndarray]:
        labels = rng.integers(classes, size=samples)
        members = rng.random((models, samples)) < 1 / 3
        logits = rng.normal(size=(models, samples, classes))
        logits[:, np.arange(samples), labels] += 1 + leak * members
        return Signals(logits, labels), members

    shadow, shadow_members = query(shadows)
    target, members = query(1)
    return Evidence(target, shadow, shadow_members), members[0]

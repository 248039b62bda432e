"""Evidence whose leakage is known: made, not measured."""

from dataclasses import replace

import numpy as np

from privet.signals import Evidence, Signals


def make_evidence(
    leak: float, seed: int, *, samples: int = 2000, classes: int = 5, shadows: int = 4
) -> tuple[Evidence, np.ndarray]:
    """Return evidence that holds everything, and the truth.

    Members' true-class logits are ``leak`` higher, their predictions steadier under noise, in two
    releases of the same models. Members are a third of the samples, so rules that profit from
    unbalanced pools show.
    """
    rng = np.random.default_rng(seed)
    owned, audited = (rng.integers(classes, size=samples) for _ in range(2))
    inside = rng.random((shadows, samples)) < 1 / 3
    referred = rng.random((shadows, samples)) < 1 / 3
    members = rng.random((1, samples)) < 1 / 3
    nobody = np.zeros((1, samples), dtype=bool)

    def signals(labels: np.ndarray, memberships: np.ndarray) -> Signals:
        models = len(memberships)
        logits = rng.normal(size=(models, samples, classes))
        logits[:, np.arange(samples), labels] += leak * memberships
        steady = np.exp(-leak * memberships)
        return Signals(
            logits,
            labels,
            sensitivity=rng.exponential(size=logits.shape) * steady[:, :, None],
            robustness=rng.random((models, samples)) ** steady,
        )

    def release() -> Evidence:
        return Evidence(
            target=signals(audited, members),
            shadow=signals(owned, inside),
            shadow_members=inside,
            reference=signals(audited, referred),
            reference_members=referred,
            population=signals(owned, nobody),
        )

    return replace(release(), releases=(release(),)), members[0]

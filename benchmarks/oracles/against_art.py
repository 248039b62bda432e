"""The gap attack and the learned attacks beside ART's, on the same scikit-learn networks."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from art.attacks.inference.membership_inference import (
    MembershipInferenceBlackBox,
    MembershipInferenceBlackBoxRuleBased,
)
from art.estimators.classification.scikitlearn import ScikitlearnClassifier
from rows import Row
from sklearn.datasets import make_classification
from sklearn.neural_network import MLPClassifier

from privet.attacks import ATTACKS
from privet.metrics import balanced_accuracy
from privet.signals import Evidence, Signals

SAMPLES = (
    4000  # the target's, and as many of the attacker's; each network trains on half of its own
)
SHADOWS = 5


def against_art(seed: int = 0) -> Iterator[Row]:
    """Attack one network with shadow networks of the same kind."""
    target, evidence, truth, inputs = networks(seed)
    labels = evidence.target.labels
    classifier = ScikitlearnClassifier(target)
    rule = MembershipInferenceBlackBoxRuleBased(classifier).infer(inputs, labels) == 1
    verdicts = {
        name: attack.attack(evidence, np.random.default_rng(seed)).decisions
        for name, attack in ATTACKS.items()
        if attack.needs <= evidence.holds
    }
    gap = verdicts.pop("gap")
    yield Row(
        "ART rule-based, privet gap",
        f"{balanced_accuracy(rule, truth):.4f}, {balanced_accuracy(gap, truth):.4f}",
        equal=bool((rule == gap).all()),
    )
    p, members = np.exp(evidence.shadow.logits), evidence.shadow_members
    known = np.broadcast_to(evidence.shadow.labels, members.shape)
    np.random.seed(seed)  # noqa: NPY002  # ART's models draw from the global generators
    torch.manual_seed(seed)
    for kind in ("gb", "rf", "nn"):
        learned = MembershipInferenceBlackBox(classifier, attack_model_type=kind)
        learned.fit(
            pred=p[members], y=known[members], test_pred=p[~members], test_y=known[~members]
        )
        decisions = learned.infer(inputs, labels).ravel() == 1
        yield Row(f"ART black box, {kind}", f"{balanced_accuracy(decisions, truth):.4f}")
    for name, decisions in verdicts.items():
        if decisions is not None:
            yield Row(f"privet {name}", f"{balanced_accuracy(decisions, truth):.4f}")


def networks(seed: int) -> tuple[MLPClassifier, Evidence, np.ndarray, np.ndarray]:
    """Return the target, evidence about it, its true members, and the audited inputs."""
    X, y = make_classification(
        2 * SAMPLES, 30, n_informative=12, n_classes=5, flip_y=0.1, random_state=seed
    )
    rng = np.random.default_rng(seed)
    audited, owned = np.arange(SAMPLES), np.arange(SAMPLES, 2 * SAMPLES)

    def trained(pool: np.ndarray, number: int) -> tuple[MLPClassifier, np.ndarray]:
        members = rng.permutation(SAMPLES) < SAMPLES // 2
        model = MLPClassifier(128, max_iter=60, alpha=0.0, random_state=number)
        return model.fit(X[pool[members]], y[pool[members]]), members

    def signals(models: Sequence[MLPClassifier], pool: np.ndarray) -> Signals:
        p = np.stack([model.predict_proba(X[pool]) for model in models])
        return Signals(np.log(np.maximum(p, np.finfo(float).tiny)), y[pool])

    target, truth = trained(audited, 0)
    shadows, inside = zip(*(trained(owned, 1 + k) for k in range(SHADOWS)), strict=True)
    evidence = Evidence(
        target=signals([target], audited),
        shadow=signals(shadows, owned),
        shadow_members=np.stack(inside),
        reference=signals(shadows, audited),
        reference_members=np.zeros((SHADOWS, SAMPLES), dtype=bool),
        population=signals([target], owned),
    )
    return target, evidence, truth, X[audited]

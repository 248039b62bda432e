"""What holds for every registered attack."""

from dataclasses import replace

import numpy as np
import pytest

from evidence import make_evidence
from privet.attacks import ATTACKS, NEEDS, PACKAGES
from privet.errors import EvidenceError
from privet.findings import find, unsupported
from privet.metrics import judge
from privet.signals import Evidence, Signals

# These train networks: seconds each.
SLOW = {"nn", "nn-top3", "nn-class", "samia", "multi-release", "boosting"}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in sorted(ATTACKS)
    ]
)
def attack(request):
    return ATTACKS[request.param]


def test_it_cites_its_paper(attack):
    assert len(attack.paper) > 20


def test_scores_are_one_finite_number_a_sample(attack):
    evidence, members = make_evidence(leak=1.0, seed=0)
    verdict = attack.attack(evidence, np.random.default_rng(0))
    assert verdict.scores.shape == members.shape
    assert np.isfinite(verdict.scores).all()
    assert verdict.decisions is None or verdict.decisions.dtype == np.bool_


def test_leaky_evidence_is_found_in_the_right_direction(attack):
    evidence, members = make_evidence(leak=6.0, seed=1)
    verdict = attack.attack(evidence, np.random.default_rng(0))
    judged = judge(verdict.scores, members, decisions=verdict.decisions)
    assert judged.auc > 0.8
    assert judged.balanced_accuracy is None or judged.balanced_accuracy > 0.75


def test_null_evidence_is_not(request, attack):
    aucs, accuracies = [], []
    for seed in range(4 if request.node.get_closest_marker("slow") else 8):
        evidence, members = make_evidence(leak=0.0, seed=seed)
        verdict = attack.attack(evidence, np.random.default_rng(seed))
        judged = judge(verdict.scores, members, decisions=verdict.decisions)
        aucs.append(judged.auc)
        accuracies.append(0.5 if judged.balanced_accuracy is None else judged.balanced_accuracy)
    # Standard error of a mean of four: about 0.013 / sqrt(4) each.
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.02)
    assert np.mean(accuracies) == pytest.approx(0.5, abs=0.02)


def test_the_same_generator_gives_the_same_verdict(attack):
    evidence, _ = make_evidence(leak=1.0, seed=3)
    first = attack.attack(evidence, np.random.default_rng(5))
    second = attack.attack(evidence, np.random.default_rng(5))
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.threshold, second.threshold)


def test_extreme_logits_stay_finite(attack):
    evidence, _ = make_evidence(leak=0.0, seed=4, samples=200)
    evidence.target.logits[0, :50] *= 1e4
    evidence.shadow.logits[0, :50] *= 1e4
    assert np.isfinite(attack.attack(evidence, np.random.default_rng(0)).scores).all()


def test_a_class_the_shadows_never_saw_is_judged_all_the_same(attack):
    evidence, members = make_evidence(leak=6.0, seed=6)
    evidence.shadow.labels[evidence.shadow.labels == 4] = 0
    verdict = attack.attack(evidence, np.random.default_rng(0))
    rare = evidence.target.labels == 4
    assert verdict.decisions is None or verdict.decisions[rare & members].mean() > 0.5


def stripped(evidence, needs):
    """Return the evidence with nothing but what an attack says that it needs."""

    def bare(signals):
        return Signals(
            signals.logits,
            signals.labels,
            signals.sensitivity if "sensitivity" in needs else None,
            signals.robustness if "robustness" in needs else None,
        )

    shadow, reference = "shadow" in needs, bool({"reference", "online"} & set(needs))
    members = evidence.reference_members & ("online" in needs)
    return Evidence(
        bare(evidence.target),
        bare(evidence.shadow) if shadow else None,
        evidence.shadow_members if shadow else None,
        reference=bare(evidence.reference) if reference else None,
        reference_members=members if reference else None,
        releases=tuple(stripped(each, needs) for each in evidence.releases)
        if "releases" in needs
        else (),
    )


def test_it_needs_no_more_than_it_says(attack):
    evidence, members = make_evidence(leak=4.0, seed=2, samples=600)
    least = stripped(evidence, attack.needs)
    assert attack.needs <= set(NEEDS)
    assert unsupported({"it": attack}, least) == {}
    verdict = attack.attack(least, np.random.default_rng(0))
    assert judge(verdict.scores, members).auc > 0.7


def test_without_what_it_needs_it_is_not_run(attack):
    evidence, members = make_evidence(leak=4.0, seed=2, samples=600)
    for need in attack.needs - set(PACKAGES) - {"reference"}:
        poorer = stripped(evidence, attack.needs - {need})
        assert NEEDS[need] in unsupported({"it": attack}, poorer)["it"]
        with pytest.raises(EvidenceError, match=r"needs .*, which is not there"):
            find(poorer, members, attacks={"it": attack})


def test_the_order_of_the_samples_does_not_matter(attack):
    evidence, members = make_evidence(leak=3.0, seed=2, samples=600)
    order = np.argsort(members, kind="stable")[::-1]  # members first, as an audit has them

    def sorted_signals(signals):
        return Signals(
            signals.logits[:, order],
            signals.labels[order],
            signals.sensitivity[:, order],
            signals.robustness[:, order],
        )

    def reordered(one):
        return replace(
            one,
            target=sorted_signals(one.target),
            reference=sorted_signals(one.reference),
            reference_members=one.reference_members[:, order],
            releases=tuple(map(reordered, one.releases)),
        )

    before = attack.attack(evidence, np.random.default_rng(0))
    after = attack.attack(reordered(evidence), np.random.default_rng(0))
    np.testing.assert_allclose(after.scores, before.scores[order], rtol=1e-5, atol=1e-6)

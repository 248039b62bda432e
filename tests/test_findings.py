import json
from dataclasses import dataclass

import numpy as np
import pytest

from evidence import make_evidence
from privet.attacks import ATTACKS, Verdict
from privet.errors import EvidenceError, OptionError
from privet.findings import ROC_POINTS, choose_attacks, find
from privet.metrics import roc_curve
from privet.signals import Evidence, Signals


@dataclass(frozen=True)
class Guess:
    """Scores at random; only ranks unless it is given a threshold."""

    threshold: float | None = None
    paper: str = "Chance, 1654"
    needs: frozenset[str] = frozenset()

    def attack(self, evidence, rng):
        return Verdict(rng.random(len(evidence.target.labels)), self.threshold)


@dataclass(frozen=True)
class Fixed:
    """Answers with scores that were written down before."""

    scores: np.ndarray
    threshold: float | None = None
    paper: str = "A table"
    needs: frozenset[str] = frozenset()

    def attack(self, evidence, rng):
        return Verdict(self.scores, self.threshold)


def timeless(findings):
    return {each["attack"]: {k: v for k, v in each.items() if k != "seconds"} for each in findings}


def test_all_means_every_attack():
    assert dict(choose_attacks("all")) == dict(ATTACKS)


def test_attacks_come_in_the_order_asked_for():
    assert list(choose_attacks("entr")) == ["entr"]
    assert list(choose_attacks(name for name in ("mentr", "conf"))) == ["mentr", "conf"]
    assert choose_attacks(["conf"])["conf"] is ATTACKS["conf"]


@pytest.mark.parametrize("names", ["magic", ["conf", "magic"], ["magic", "conf", "wand"], ""])
def test_unknown_attacks_are_named_beside_the_choices(names):
    with pytest.raises(OptionError) as caught:
        choose_attacks(names)
    message = str(caught.value)
    offenders = [n for n in ([names] if isinstance(names, str) else names) if n not in ATTACKS]
    blamed, choices = message.split("; choose from ")
    assert all(repr(offender) in blamed for offender in offenders)
    assert "'conf'" not in blamed
    assert all(name in choices for name in [*ATTACKS, "all"])
    assert "\n" not in message


def test_no_attack_at_all_is_refused():
    with pytest.raises(OptionError, match=r"empty.*choose from"):
        choose_attacks([])


def test_findings_are_plain_json():
    evidence, members = make_evidence(leak=1.0, seed=0, samples=600)
    found = find(evidence, members, attacks={**ATTACKS, "guess": Guess()}, seed=3)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [each["attack"] for each in found] == [*ATTACKS, "guess"]
    assert all(each["members"] == members.sum() for each in found)
    assert all(each["members"] + each["nonmembers"] == 600 for each in found)
    assert all(list(each["tpr_at_fpr"]) == ["0.1", "0.01", "0.001"] for each in found)
    assert all(each["seconds"] >= 0 for each in found)
    assert found[0]["paper"] == ATTACKS["conf"].paper


def test_extreme_evidence_is_plain_json_too():
    evidence, members = make_evidence(leak=0.0, seed=1, samples=40)
    evidence.target.logits[0, :20] *= 1e4
    found = find(evidence, members, attacks=ATTACKS, seed=0)
    assert len(json.dumps(found, allow_nan=False)) > 0


def test_an_attack_that_only_ranks_has_no_accuracy():
    evidence, members = make_evidence(leak=0.0, seed=0, samples=200)
    ranked, decided = find(
        evidence, members, attacks={"rank": Guess(), "decide": Guess(threshold=-1.0)}, seed=0
    )
    assert ranked["balanced_accuracy"] is None
    assert decided["balanced_accuracy"] == 0.5


def test_a_perfect_attack_is_judged_perfect():
    evidence, members = make_evidence(leak=0.0, seed=0, samples=200)
    (found,) = find(evidence, members, attacks={"oracle": Fixed(members * 1.0, 0.5)}, seed=0)
    assert found["balanced_accuracy"] == found["auc"] == 1
    assert found["roc"] == {"fpr": [0.0, 0.0, 1.0], "tpr": [0.0, 1.0, 1.0]}
    assert [rate["tpr"] for rate in found["tpr_at_fpr"].values()] == [1, 1, 1]
    # 200 samples hold too few nonmembers to accuse one in a thousand.
    assert [rate["resolved"] for rate in found["tpr_at_fpr"].values()] == [True, True, False]


def test_findings_do_not_depend_on_the_order_of_the_attacks():
    evidence, members = make_evidence(leak=1.0, seed=0, samples=300)
    attacks = {**ATTACKS, "guess": Guess(), "other": Guess()}
    forth = timeless(find(evidence, members, attacks=attacks, seed=7))
    back = dict(reversed(attacks.items()))
    assert timeless(find(evidence, members, attacks=back, seed=7)) == forth
    assert timeless(find(evidence, members, attacks={"other": Guess()}, seed=7)) == {
        "other": forth["other"]
    }
    assert forth["guess"]["auc"] != forth["other"]["auc"]
    assert timeless(find(evidence, members, attacks=attacks, seed=8)) != forth


@pytest.mark.parametrize("corners", [2, 3, 50, 199, 200, 201, 5000])
def test_the_thinned_roc_keeps_its_ends_and_stays_a_part_of_the_curve(corners):
    samples = max(corners - 1, 2)
    pool, _ = make_evidence(leak=0.0, seed=2, samples=max(samples, 20))
    target = Signals(pool.target.logits[:, :samples], pool.target.labels[:samples])
    evidence = Evidence(target, pool.shadow, pool.shadow_members)
    members = np.random.default_rng(0).random(samples) < 0.3
    members[:2] = True, False
    scores = np.arange(samples) % (corners - 1) * 1.0
    (found,) = find(evidence, members, attacks={"fixed": Fixed(scores)}, seed=0)
    fpr, tpr = found["roc"]["fpr"], found["roc"]["tpr"]
    assert len(fpr) == len(tpr) <= ROC_POINTS
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    whole = set(zip(*(axis.tolist() for axis in roc_curve(scores, members)), strict=True))
    assert set(zip(fpr, tpr, strict=True)) <= whole


def test_thinning_spares_the_low_false_positive_rates():
    evidence, members = make_evidence(leak=0.0, seed=2, samples=5000)
    scores = np.random.default_rng(0).random(5000)
    (found,) = find(evidence, members, attacks={"fixed": Fixed(scores)}, seed=0)
    fpr = np.array(found["roc"]["fpr"])
    assert (fpr <= 0.01).sum() > len(fpr) / 4


@pytest.mark.parametrize("shape", [(199,), (200, 1), ()])
def test_membership_of_another_shape_is_named(shape):
    evidence, _ = make_evidence(leak=0.0, seed=0, samples=200)
    with pytest.raises(EvidenceError, match=r"shape \(200,\); got") as caught:
        find(evidence, np.zeros(shape, bool), attacks=ATTACKS, seed=0)
    assert str(shape) in str(caught.value)


def test_scores_that_are_not_finite_are_refused():
    evidence, members = make_evidence(leak=0.0, seed=0, samples=200)
    scores = np.where(np.arange(200) < 3, np.nan, 1.0)
    with pytest.raises(EvidenceError, match="3 scores"):
        find(evidence, members, attacks={"broken": Fixed(scores)}, seed=0)

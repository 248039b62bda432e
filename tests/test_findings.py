import json
from dataclasses import dataclass

import numpy as np
import pytest

from evidence import make_evidence
from privet.attacks import ATTACKS, Verdict
from privet.errors import EvidenceError, OptionError
from privet.findings import MOST_EXPOSED, ROC_POINTS, choose_attacks, find
from privet.groups import Grouping, by_class, by_quantile, canaries
from privet.metrics import auc, balanced_accuracy, judge, roc_curve
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


def found_with(scores, members, *, threshold=None, groupings=(), samples=None):
    """Return the finding of an attack that gives these scores."""
    pool, _ = make_evidence(leak=0.0, seed=2, samples=max(len(scores), 20))
    part = slice(0, len(scores))
    target = Signals(pool.target.logits[:, part], pool.target.labels[part])
    (found,) = find(
        Evidence(target),
        members,
        attacks={"fixed": Fixed(scores, threshold)},
        groupings=groupings,
        samples=samples,
    )
    return found


def test_each_group_is_judged_by_itself():
    rng = np.random.default_rng(0)
    members = rng.random(400) < 0.4
    exposed = np.arange(400) >= 300
    scores = rng.normal(size=400) + 9.0 * (members & exposed)
    grouping = by_quantile(exposed * 1.0 + np.arange(400) / 1e4, kind="risk")
    found = found_with(scores, members, threshold=4.0, groupings=[grouping])
    entries = found["breakdowns"]["risk"]
    assert [entry["name"] for entry in entries] == ["lowest", "2 of 4", "3 of 4", "highest"]
    for place, entry in enumerate(entries):
        part = slice(100 * place, 100 * place + 100)
        assert entry["auc"] == auc(scores[part], members[part])
        assert entry["auc_low"] < entry["auc"] <= entry["auc_high"]
        assert entry["balanced_accuracy"] == balanced_accuracy(scores[part] >= 4, members[part])
        assert entry["members"] + entry["nonmembers"] == 100
        rates = judge(scores[part], members[part]).tpr_at_fpr
        assert {key: one["tpr"] for key, one in entry["tpr_at_fpr"].items()} == {
            str(alpha): rate.tpr for alpha, rate in rates.items()
        }
        assert entry["tpr_at_fpr"].keys() == found["tpr_at_fpr"].keys()
        assert entry["tpr_at_fpr"]["0.1"].keys() == found["tpr_at_fpr"]["0.1"].keys()
    assert entries[3]["auc"] == 1
    assert max(entry["auc"] for entry in entries[:3]) < 0.7


def test_classes_are_light_and_canaries_are_not():
    evidence, members = make_evidence(leak=2.0, seed=0, samples=600)
    labels = evidence.target.labels
    planted = np.arange(600) % 7 == 0
    groupings = [by_class(labels), canaries(planted)]
    for found in find(evidence, members, attacks=ATTACKS, groupings=groupings):
        classes = found["breakdowns"]["class"]
        assert [entry["name"] for entry in classes] == ["0", "1", "2", "3", "4"]
        assert sum(entry["members"] for entry in classes) == found["members"]
        assert found["members"] == (members & ~planted).sum()
        assert not any("tpr_at_fpr" in entry for entry in classes)
        (entry,) = found["breakdowns"]["canaries"]
        assert entry["members"] == (members & planted).sum()
        assert entry["nonmembers"] == (~members & planted).sum()
        assert entry["auc"] > 0.5
        assert entry["tpr_at_fpr"]["0.1"]["resolved"]
        assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_group_with_one_side_only_has_counts_and_no_figures():
    members = np.array([True, True, False, False])
    grouping = Grouping("mine", ("in", "out", "no one"), np.array([0, 0, 1, -1]))
    scores = np.arange(4.0)
    inside, outside = found_with(scores, members, groupings=[grouping])["breakdowns"]["mine"]
    nothing = dict.fromkeys(("balanced_accuracy", "auc", "auc_low", "auc_high", "tpr_at_fpr"))
    assert inside == {"name": "in", "members": 2, "nonmembers": 0, **nothing}
    assert outside == {"name": "out", "members": 0, "nonmembers": 1, **nothing}


def test_groups_of_an_attack_that_only_ranks_have_no_accuracy():
    members = np.arange(20) % 2 == 0
    found = found_with(np.arange(20.0), members, groupings=[canaries(np.arange(20) < 8)])
    assert found["breakdowns"]["canaries"][0]["balanced_accuracy"] is None


def test_canaries_are_judged_apart_and_nowhere_else():
    rng = np.random.default_rng(0)
    members, planted = np.arange(400) % 2 == 0, np.arange(400) < 100
    # Canaries give themselves away, the others do not.
    scores = rng.normal(size=400) + 20.0 * (members & planted)
    grouping = by_class(np.arange(400) % 3)
    found = found_with(scores, members, threshold=9.0, groupings=[canaries(planted), grouping])
    alone = Evidence(Signals(np.zeros((1, 300, 3)), np.arange(100, 400) % 3))
    attacks = {"fixed": Fixed(scores[100:], 9.0)}
    (without,) = find(
        alone, members[100:], attacks=attacks, groupings=[by_class(alone.target.labels)]
    )
    assert (found["members"], found["nonmembers"]) == (150, 150)
    for key in ("auc", "balanced_accuracy", "tpr_at_fpr", "roc"):
        assert found[key] == without[key], key
    assert found["breakdowns"]["class"] == without["breakdowns"]["class"]
    assert found["breakdowns"]["canaries"][0]["auc"] == 1
    assert all(one["sample"] >= 100 for one in found["most_exposed"])
    shifted = [{**one, "sample": one["sample"] + 100} for one in without["most_exposed"]]
    assert found["most_exposed"] == shifted


def test_without_groupings_nothing_is_broken_down():
    assert found_with(np.arange(4.0), np.arange(4) < 2)["breakdowns"] == {}


def test_the_most_exposed_are_the_highest_members_by_the_names_given():
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 4.0])
    members = np.array([True, False, True, False, True, True])
    found = found_with(scores, members, samples=np.array([10, 20, 30, 40, 50, 60]))
    assert found["most_exposed"] == [
        {"sample": 10, "fpr": 0.0},
        # A nonmember that scores as high counts.
        {"sample": 60, "fpr": 0.5},
        {"sample": 30, "fpr": 0.5},
        {"sample": 50, "fpr": 1.0},
    ]


def test_ties_among_the_most_exposed_go_by_position():
    members = np.arange(100) % 2 == 1
    found = found_with(np.zeros(100), members)["most_exposed"]
    assert found == [{"sample": 2 * place + 1, "fpr": 1.0} for place in range(MOST_EXPOSED)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groupings": [by_class(np.zeros(3, int))]}, r"groups by class must have shape \(4,\)"),
        ({"groupings": [by_class(np.zeros(4, int))] * 2}, "differ in kind; got class, class"),
        ({"samples": np.arange(5)}, r"samples must have shape \(4,\); got \(5,\)"),
        ({"samples": np.arange(4.0)}, "integers; got float64"),
    ],
)
def test_what_does_not_fit_the_pool_is_named(arguments, message):
    with pytest.raises(EvidenceError, match=message):
        found_with(np.arange(4.0), np.arange(4) < 2, **arguments)

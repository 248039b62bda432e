"""The page protects records as Python does: same numbers, same probabilities, same releases."""

import numpy as np
import pytest

from page.made_bundles import KEY, as_ratings, as_record, make_bundle, make_people, stored
from privet.device import Rules, load_bundle
from privet.device.mechanism import uniform
from privet.device.releases import plan_releases

PEOPLE = 6
LOW_HIGH = {"low": tuple(np.tile([0.0, 0.2], 60)), "high": tuple(np.tile([0.8, 1.0, 0.6], 40))}
BUNDLES = {
    "answers": make_bundle(),
    "a prior for all alike": make_bundle(seed=1, even=True, leak=0.0),
    "deep": make_bundle((90, 30, 16, 6), seed=2, max_steps=5),
    "many steps": make_bundle((60, 20, 3), seed=3, max_steps=64, temperature=0.4),
    "only what is there": make_bundle(seed=4, policy="modify_exist"),
    "only what is not": make_bundle(seed=5, policy="add_new", **LOW_HIGH),
    "never": make_bundle(seed=6, never=tuple(range(0, 120, 3)), high=0.8),
    "nothing may change": make_bundle((8, 6, 3), seed=7, never=tuple(range(8))),
    "targets": make_bundle(seed=8, mechanism="targets", temperature=1.0, leak=0.0),
    "targets with margins": make_bundle(
        (120, 24, 16, 5),
        seed=9,
        mechanism="targets",
        temperature=1.0,
        leak=0.0,
        margins=((1.0, 0.5), (3.0, 2.0)),
        max_steps=20,
        **LOW_HIGH,
    ),
}


def probabilities(bundle, people, *, budget, rules=None):
    """How likely Python releases each person with which changes, and the expected costs.

    By what is changed: where two ways meet, it is chance which of them a candidate is on.
    """
    (releases,) = plan_releases(
        bundle.network,
        people,
        prior=bundle.prior,
        budgets=[budget],
        settings=bundle.settings,
        rules=rules,
    )
    plans = [{} for _ in people]
    for column in range(releases.psi.shape[1]):
        choice = np.full(len(people), column)
        record, feature, value = releases.candidates.changes(choice)
        for person, plan in enumerate(plans):
            own = record == person
            changes = tuple(sorted(zip(feature[own].tolist(), value[own].tolist(), strict=True)))
            plan[changes] = plan.get(changes, 0) + releases.psi[person, column]
    return plans, releases.expected_cost


def their_probabilities(plan):
    """The same of a plan made in the page."""
    found = {}
    for candidate, psi in zip(plan["candidates"], plan["psi"], strict=True):
        changes = tuple((each["feature"], each["after"]) for each in candidate["changes"])
        found[changes] = found.get(changes, 0) + psi
    return found


def assert_same(bundle, people, answers, *, budget, rules=None):
    """Compare what the page says of some people with what Python does."""
    expected = bundle.protect(people, budget=budget, key=KEY, rules=rules)
    plans, costs = probabilities(bundle, people, budget=budget, rules=rules)
    posterior = bundle.posterior(people)
    for person, (answer, plan) in enumerate(zip(answers, plans, strict=True)):
        release = answer["release"]
        got = as_record(release["record"], people.shape[1])
        np.testing.assert_array_equal(got, expected.records[person])
        changed = np.flatnonzero(expected.records[person] != people[person])
        assert release["changes"] == [
            {"feature": int(k), "before": people[person, k], "after": got[k]} for k in changed
        ]
        assert release["cost"] == expected.cost[person] == len(changed)
        assert release["target"] == expected.target[person]
        assert release["reached"] == expected.reached[person]
        assert release["expectedCost"] == pytest.approx(costs[person], abs=1e-5)
        np.testing.assert_allclose(answer["posterior"], posterior[person], atol=1e-5)
        np.testing.assert_allclose(release["posterior"], bundle.posterior(got[None])[0], atol=1e-5)
        theirs = their_probabilities(answer["plan"])
        assert sum(theirs.values()) == pytest.approx(1)
        for changes in plan.keys() | theirs.keys():
            assert theirs.get(changes, 0) == pytest.approx(plan.get(changes, 0), abs=1e-6)


@pytest.mark.parametrize("budget", [0.7, 3.0])
@pytest.mark.parametrize("name", BUNDLES)
def test_same_releases(core, tmp_path, name, budget):
    path, text = stored(BUNDLES[name], tmp_path)
    bundle = load_bundle(path)
    people = make_people(PEOPLE, bundle.features, seed=len(name))
    people[0] = 0
    given = {"base64": text, "records": list(map(as_ratings, people)), "budget": budget}
    answers = core("protect", given | {"key": KEY.hex()})
    assert_same(bundle, people, answers, budget=budget)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_same_releases_from_coarser_weights(core, tmp_path, precision):
    path, text = stored(make_bundle((90, 30, 16, 6), seed=11), tmp_path, precision)
    bundle = load_bundle(path)
    people = make_people(PEOPLE, bundle.features, seed=3)
    given = {"base64": text, "records": list(map(as_ratings, people)), "budget": 2.0}
    answers = core("protect", given | {"key": KEY.hex()})
    assert_same(bundle, people, answers, budget=2.0)


@pytest.mark.parametrize("policy", [None, "modify_exist"])
@pytest.mark.parametrize("name", ["answers", "targets"])
def test_a_person_is_stricter(core, tmp_path, name, policy):
    path, text = stored(BUNDLES[name], tmp_path)
    bundle = load_bundle(path)
    people = make_people(PEOPLE, bundle.features, seed=5)
    keep = np.random.default_rng(0).random(bundle.features) < 0.5
    given = {"base64": text, "records": list(map(as_ratings, people)), "budget": 2.0}
    own = {"keep": np.flatnonzero(keep).tolist(), "policy": policy}
    answers = core("protect", given | own | {"key": KEY.hex()})
    assert_same(bundle, people, answers, budget=2.0, rules=Rules(policy=policy, keep=keep))
    changed = [x["feature"] for each in answers for x in each["release"]["changes"]]
    assert changed
    assert not keep[changed].any()


def test_one_time_numbers_bit_for_bit(core):
    people = make_people(50, 400, seed=2) * np.random.default_rng(0).random((50, 400))
    people[:2] = 0
    people[1, 3], people[2, 4] = 1e-50, 1e-45  # nothing and the least, in float32
    given = {"key": KEY.hex(), "records": list(map(as_ratings, people))}
    assert core("uniform", given) == uniform(KEY, people).tolist()


def test_a_key_of_another_length_is_refused(core):
    with pytest.raises(Exception, match="a key has 32 bytes; this one has 31"):
        core("uniform", {"key": KEY[1:].hex(), "records": [{"feature": [], "value": []}]})


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf")])
def test_impossible_budgets_are_refused(core, tmp_path, budget):
    _, text = stored(BUNDLES["answers"], tmp_path)
    given = {"base64": text, "records": [{"feature": [], "value": []}], "key": KEY.hex()}
    with pytest.raises(Exception, match="budget must be a number above 0"):
        core("protect", given | {"budget": budget})

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from privet.device import (
    Bundle,
    Network,
    Settings,
    load_bundle,
    quantized,
    run_self_test,
    self_test,
    write_bundle,
)
from privet.device.answers import least_divergence_of_answers
from privet.device.case import Case, dense, entries
from privet.device.self_test import make_cases
from privet.errors import BundleError

KEY = hashlib.sha256(b"privet self-test 1").digest()
ANSWERS = Settings(max_steps=4, mechanism="answers", temperature=0.3, leak=0.15)


@pytest.fixture(
    scope="module", params=["targets", "answers", "rules", "membership", "int8", "nothing"]
)
def loaded(request, guesser, detector, tmp_path_factory):
    """Bundles of many sorts, as they come from their files."""
    bundle = {
        "targets": Bundle("attribute", guesser),
        "answers": Bundle("attribute", guesser, settings=ANSWERS),
        "rules": Bundle(
            "attribute",
            guesser,
            settings=replace(ANSWERS, policy="add_new", low=0.1, high=0.6, never=(1, 2, 250)),
        ),
        "membership": Bundle("membership", detector),
        "int8": Bundle("attribute", guesser, settings=ANSWERS),
        "nothing": Bundle("attribute", guesser, settings=Settings(never=tuple(range(300)))),
    }[request.param]
    path = tmp_path_factory.mktemp("self-test") / "bundle"
    write_bundle(bundle, path, precision="int8" if request.param == "int8" else "float32")
    return load_bundle(path)


def test_bundles_come_with_cases_that_pass(loaded):
    assert 1 <= run_self_test(loaded) == len(loaded.self_test) <= 8
    if loaded.settings.never != tuple(range(300)):
        assert any(case.record != case.release for case in loaded.self_test)


def test_cases_say_what_the_public_key_gives(loaded):
    for case in loaded.self_test:
        record = dense(loaded.kind, case.record, loaded.features)[None]
        release = loaded.protect(record, budget=case.budget, key=KEY).records[0]
        expected = dense(loaded.kind, case.release, loaded.features)
        np.testing.assert_allclose(release, expected, atol=1e-6)
        posterior = loaded.posterior(record)[0]
        np.testing.assert_allclose(np.atleast_1d(posterior), case.posterior, atol=1e-5)


def test_records_are_legal_and_few_entries_long(loaded):
    for case in loaded.self_test:
        if loaded.kind == "membership":
            assert sum(case.record) == pytest.approx(1, abs=1e-4)
            continue
        features, values = zip(*case.record, strict=True)
        assert 1 <= len(features) <= 12
        low, high = loaded.settings.rules.legal_values(loaded.features)
        at = list(features)
        assert (low[at] <= values).all()
        assert (values <= high[at]).all()


def test_another_order_of_sums_still_passes(loaded):
    """Hidden units in another order are the same network, but for float32 rounding."""
    (first, *rest), (bias, *biases) = loaded.network.weights, loaded.network.biases
    order = np.random.default_rng(0).permutation(len(bias))
    rest[0] = np.ascontiguousarray(rest[0][:, order])
    other = Network((first[order], *rest), (bias[order], *biases))
    assert run_self_test(replace(loaded, network=other)) == len(loaded.self_test)


def test_wrong_arithmetic_is_noticed(loaded):
    wrong = loaded.network.weights[-1].copy()
    wrong[0] *= np.float32(1.3)
    other = Network((*loaded.network.weights[:-1], wrong), loaded.network.biases)
    with pytest.raises(BundleError, match=r"case \d of the self-test has another answer"):
        run_self_test(replace(loaded, network=other))


@pytest.fixture(scope="module")
def first_case(guesser):
    """A bundle, and a case of its self-test in which something changes."""
    bundle = Bundle("attribute", guesser, settings=ANSWERS)
    case = make_cases(bundle)[0]
    assert case.record != case.release
    return bundle, case


@pytest.mark.parametrize("what", ["record", "budget", "release", "value", "posterior"])
def test_a_changed_case_is_noticed_and_named(first_case, what):
    bundle, case = first_case
    (feature, value), *others = case.release
    wrong = {
        "record": replace(case, record=case.release),
        "budget": replace(case, budget=1e-9),
        "release": replace(case, release=case.record),
        "value": replace(case, release=((feature, value - 2e-6), *others)),
        "posterior": replace(case, posterior=tuple(p + 2e-4 for p in case.posterior)),
    }[what]
    with pytest.raises(BundleError, match="case 1 of"):
        run_self_test(replace(bundle, self_test=(case, wrong)))


def test_membership_within_a_thousandth(detector):
    bundle = Bundle("membership", detector)
    (case, *_) = make_cases(bundle)
    for shift, passes in ((5e-4, True), (2e-3, False)):
        near = replace(case, release=(case.release[0] + shift, *case.release[1:]))
        other = replace(bundle, self_test=(near,))
        if passes:
            assert run_self_test(other) == 1
        else:
            with pytest.raises(BundleError, match="case 0"):
                run_self_test(other)


def test_no_release_hangs_on_which_of_equal_candidates_is_kept(monkeypatch):
    """Ways to several targets begin alike; stops that are equal count once."""
    rng = np.random.default_rng(4)
    weights = (rng.normal(size=(16, 12)).astype("f4"), rng.normal(size=(8, 16)).astype("f4"))
    network = Network(weights, (np.zeros(16, "f4"), np.zeros(8, "f4")))
    bundle = Bundle("attribute", network, settings=ANSWERS)
    cases = [Case(entries(record), 2.5, (), ()) for record in rng.integers(0, 2, (80, 12)) * 1.0]
    cases = self_test._answers(bundle, cases)

    def prefer_last(prior, answers, costs, budget):
        order = np.r_[0, answers.shape[1] - 1 : 0 : -1]
        column, psi = least_divergence_of_answers(prior, answers[:, order], costs[:, order], budget)
        column = order[column]
        ascending = column.argsort(axis=1)
        return (np.take_along_axis(each, ascending, axis=1) for each in (column, psi))

    monkeypatch.setattr("privet.device.releases.least_divergence_of_answers", prefer_last)
    others = self_test._answers(bundle, cases)
    assert [case.release for case in cases] == [case.release for case in others]


def test_cases_are_those_of_the_stored_network(guesser, tmp_path):
    bundle = Bundle("attribute", guesser, settings=ANSWERS)
    write_bundle(bundle, tmp_path / "a", precision="int8")
    coarse = replace(bundle, network=quantized(guesser, "int8"))
    assert load_bundle(tmp_path / "a").self_test == make_cases(coarse)
    assert make_cases(coarse)[0].posterior != make_cases(bundle)[0].posterior


def test_cases_are_tried_one_at_a_time(first_case, monkeypatch):
    """So that `privet.device.pick.memory_needed` holds for a device that tests first."""
    bundle, case = first_case
    rows, protect = [], Bundle.protect

    def watched(self, records, **options):
        rows.append(len(records))
        return protect(self, records, **options)

    monkeypatch.setattr(Bundle, "protect", watched)
    assert run_self_test(replace(bundle, self_test=(case,) * 3)) == 3
    assert rows == [1, 1, 1]


def test_a_self_test_that_cannot_be_tried_is_refused(detector):
    bundle = Bundle("membership", detector)
    case = make_cases(bundle)[0]
    wrong = replace(case, record=(0.9,) * 8)
    with pytest.raises(BundleError, match="cannot be tried"):
        run_self_test(replace(bundle, self_test=(wrong,)))
    assert run_self_test(replace(bundle, self_test=())) == 0

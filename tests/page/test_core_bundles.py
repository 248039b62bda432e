"""The page reads bundles as Python does, and refuses what Python refuses."""

import json
from time import perf_counter

import numpy as np
import pytest

from device.bundle_parts import of_classes, put_together, take_apart
from device.hostile_bundles import hostile
from page.made_bundles import as_text, make_bundle, stored
from privet.device import Bundle, Network, Settings, load_bundle, read_bundle, write_bundle
from privet.errors import BundleError

SOME = make_bundle((6, 5, 4, 3), seed=1, max_steps=5, high=(1.0, 0.8, 1.0, 1.0, 0.6, 1.0))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound small bundle's bytes, with a self-test."""
    path, _ = stored(SOME, tmp_path_factory.mktemp("sound"))
    return path.read_bytes()


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_reads_what_python_reads(core, tmp_path, precision):
    path, text = stored(SOME, tmp_path, precision)
    bundle, read = load_bundle(path), core("described", text)
    assert read["kind"] == "attribute"
    assert read["digest"] == bundle.digest
    assert read["prior"] == bundle.prior.tolist()
    assert tuple(read["featureNames"]) == bundle.feature_names
    assert tuple(read["classNames"]) == bundle.class_names
    assert json.loads(read["card"]) == bundle.card
    assert read["settings"]["low"] == [0] * 6
    assert tuple(read["settings"]["high"]) == bundle.settings.high
    assert read["settings"]["maxSteps"] == 5
    sums = [float(weight.sum(dtype=np.float64)) for weight in bundle.network.weights]
    assert read["sums"] == pytest.approx(sums, abs=1e-5)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_self_tests_pass(core, tmp_path, precision):
    path, text = stored(make_bundle(seed=3), tmp_path, precision)
    assert load_bundle(path).self_test
    assert core("selfTest", {"base64": text, "spoil": False}) is None


def test_a_wrong_answer_fails_the_self_test(core, tmp_path):
    path, text = stored(make_bundle(seed=3), tmp_path)
    last = len(load_bundle(path).self_test) - 1
    error = core("selfTest", {"base64": text, "spoil": True})
    assert error["kind"] == "BundleError"
    assert f"case {last} of the self-test" in error["message"]


@pytest.mark.slow
def test_every_hostile_bundle_is_refused_quickly_and_in_one_line(core, sound):
    refused = 0
    for name, content in hostile(sound):
        text = as_text(content)
        began = perf_counter()
        error = core("refusal", text)
        assert error, f"accepted: {name}"
        assert error["kind"] == "BundleError", (name, error)
        assert "\n" not in error["message"], name
        assert len(error["message"]) < 400, name
        assert perf_counter() - began < 3, name
        refused += 1
    assert refused > 250


def test_membership_bundles_are_refused_with_the_reason(core, tmp_path):
    rng = np.random.default_rng(0)
    weights = tuple(rng.normal(size=size).astype("f4") for size in ((4, 3), (1, 4)))
    network = Network(weights, (np.zeros(4, "f4"), np.zeros(1, "f4")))
    write_bundle(Bundle("membership", network, settings=Settings()), tmp_path / "bundle")
    error = core("refusal", as_text((tmp_path / "bundle").read_bytes()))
    assert "for whoever serves a model" in error["message"]


# Each changes one thing about a sound document; None takes a field out.
ODD_DOCUMENTS = [
    {"card": {"\ud800": "\u2028", "__proto__": {"toString": 1}, "": [1e308, -0.0, 10**30]}},
    {"card": json.loads("[" * 31 + "]" * 31)},
    {"card": {"deep": json.loads("[" * 30 + "]" * 30)}},
    {"card": {"deep": json.loads("[" * 31 + "]" * 31)}},
    {"prior": [1, 0, 0]},
    {"prior": [0.5, 0.5, 0.00001]},
    {"prior": [0.5, 0.5, 0.0001]},
    {"prior": [True, 0, 0]},
    {"prior": [10**400, 0, 0]},
    {"prior": [-0.0, 0.5, 0.5]},
    {"feature_names": None},
    {"class_names": ["", "", ""]},
    {"class_names": ["a", "b", 3]},
    {"version": 3.0},
    {"version": True},
    {"layers": [6, 5, 4, 3.0]},
    {"self_test": []},
    {"self_test": [{"record": [], "budget": 1, "release": [], "posterior": [1, 0, 0]}]},
    {"self_test": [{"record": [[0.0, 1]], "budget": 1, "release": [], "posterior": [1, 0, 0]}]},
    {"self_test": [{"record": [[5, 1]], "budget": 10**400, "release": [], "posterior": [0, 0, 0]}]},
]
ODD_SETTINGS = [
    {"max_steps": None},
    {"max_steps": 64},
    {"max_steps": 65},
    {"max_steps": 5.0},
    {"max_steps": True},
    {"temperature": 1},
    {"temperature": 0},
    {"temperature": 10**400},
    {"leak": 0.999},
    {"leak": 1},
    {"low": [0, 0, 0, 0, 0, 1], "high": 1},
    {"low": [0, 0, 0, 0, 0.7, 0]},
    {"low": 0.5, "high": 0.5},
    {"high": [1]},
    {"high": True},
    {"never": [0, 5]},
    {"never": [0, 6]},
    {"never": [5, 0]},
    {"never": [0.0]},
    {"margins": [[1.0, 1.0]]},
    {"mechanism": "targets", "temperature": 1, "leak": 0, "margins": [[1, 0], [2, 3]]},
    {"mechanism": "targets", "temperature": 1, "leak": 0, "margins": [[2, 0], [2, 3]]},
    {"mechanism": "targets", "temperature": 1, "leak": 0, "margins": [[1, "0"]]},
    {"mechanism": "targets", "temperature": 1, "leak": 0.1},
    {"mechanism": "targets", "temperature": 1, "leak": 0, "max_steps": 100_000},
]


def test_odd_but_legal_documents_are_accepted_and_others_not(core, sound):
    parts = take_apart(sound)
    changed = [parts.change(**each) for each in ODD_DOCUMENTS]
    changed += [parts.settings(**each) for each in ODD_SETTINGS]
    accepted = 0
    for change, each in zip(ODD_DOCUMENTS + ODD_SETTINGS, changed, strict=True):
        content = put_together(each)
        assert (core("refusal", as_text(content)) is None) == is_accepted(content), change
        accepted += is_accepted(content)
    assert 10 < accepted < len(changed) - 10


@pytest.mark.parametrize(
    ("mechanism", "steps", "most"),
    [("targets", 1000, 2000), ("answers", None, 707), ("answers", 64, 250), ("answers", 1, 2000)],
)
def test_as_many_classes_are_accepted_and_no_more(core, sound, mechanism, steps, most):
    plain = {"mechanism": mechanism, "max_steps": steps, "temperature": 1, "leak": 0}
    parts = take_apart(sound).settings(**plain)
    for classes, fits in ((most, True), (most + 1, False)):
        content = put_together(of_classes(parts, classes))
        assert is_accepted(content) == fits
        assert (core("refusal", as_text(content)) is None) == fits


def is_accepted(content):
    try:
        read_bundle(content)
    except BundleError:
        return False
    return True

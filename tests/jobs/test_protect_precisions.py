"""Tiers stored in fewer bits: trained once, measured each by itself, as what ships."""

import json

import numpy as np
import pytest

from privet.data.registry import load
from privet.device import load_bundle, quantized, run_self_test
from privet.device.bundle import outline
from privet.errors import OptionError
from privet.jobs.attribute_training import AttributeSettings, split_users
from privet.jobs.protect import build_protection
from privet.jobs.stages import read_run
from privet.jobs.tiers import fresh, in_precisions, to_device
from privet.models import FullyConnected

SMALL = {"hidden": 16, "attacker_hidden": 8, "speedups": (2.0,), "seed": 6}
PRECISIONS = ("float32", "float16", "int8")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precisions") / "bundles"
    document = build_protection("synthetic-ratings", out=folder, precisions=PRECISIONS, **SMALL)
    return folder, document


@pytest.mark.slow
def test_one_bundle_a_precision(built):
    folder, document = built
    names = [tier["bundle"].rpartition("/")[2] for tier in document["tiers"]]
    assert names == [
        "synthetic-ratings-x2.safetensors",
        "synthetic-ratings-x2-float16.safetensors",
        "synthetic-ratings-x2-int8.safetensors",
    ]
    assert [tier["precision"] for tier in document["tiers"]] == list(PRECISIONS)
    assert json.loads((folder / "protect.json").read_text())["tiers"] == document["tiers"]
    sizes = [tier["bytes"] for tier in document["tiers"]]
    assert sizes == sorted(sizes, reverse=True)
    full = load_bundle(folder / names[0])
    for name, tier in zip(names, document["tiers"], strict=True):
        bundle = load_bundle(folder / name)
        assert outline(folder / name).precision == bundle.card["precision"] == tier["precision"]
        assert run_self_test(bundle) > 0
        expected = quantized(full.network, tier["precision"])
        for a, b in zip(bundle.network.weights, expected.weights, strict=True):
            np.testing.assert_array_equal(a, b)
    assert set(read_run(folder, "protect").record["stages"]) == {"base", "tier-2", "attacker"}


@pytest.mark.slow
def test_every_figure_is_the_quantized_networks_own(built):
    folder, document = built
    settings = AttributeSettings(hidden=16, attacker_hidden=8, speedups=(2.0,))
    inputs, labels = split_users(load("synthetic-ratings"), settings, 6).test
    for tier in document["tiers"]:
        network = load_bundle(folder / tier["bundle"].rpartition("/")[2]).network
        dense = np.asarray(inputs.to_dense() if hasattr(inputs, "to_dense") else inputs.toarray())
        right = network.logits(dense).argmax(axis=1) == labels.numpy()
        assert tier["accuracy"] == pytest.approx(right.mean(), abs=1 / len(labels))
        measured = tier["definitions"]["measured"]
        assert measured["m"] == abs(tier["accuracy"] - document["base"]["accuracy"])
        assert measured["q"] == tier["attack_accuracy"]
    attacked = [tier["attack_accuracy"] for tier in document["tiers"]]
    assert attacked[2] != attacked[0]
    np.testing.assert_allclose(attacked, attacked[0], atol=0.05)


@pytest.mark.slow
def test_repeating_rebuilds_only_what_is_gone_or_of_another_format(built):
    folder, document = built
    again = build_protection("synthetic-ratings", out=folder, precisions=PRECISIONS, **SMALL)
    assert again == document
    path = folder / "synthetic-ratings-x2-int8.safetensors"
    before = path.read_bytes()
    path.write_bytes(before.replace(b'\\"version\\":3', b'\\"version\\":2'))
    build_protection("synthetic-ratings", out=folder, precisions=PRECISIONS, **SMALL)
    assert path.read_bytes() == before
    with pytest.raises(OptionError, match="precisions"):
        build_protection("synthetic-ratings", out=folder, **SMALL)


def test_networks_round_as_their_files_will():
    tier = fresh(FullyConnected(6, (5,), 3), 0)
    before = to_device(tier.model)
    variants = list(in_precisions({2.0: tier, 4.0: tier}, PRECISIONS))
    assert [(speedup, precision) for speedup, precision, _ in variants] == [
        (speedup, precision) for speedup in (2.0, 4.0) for precision in PRECISIONS
    ]
    for _, precision, variant in variants:
        expected, found = quantized(before, precision), to_device(variant.model)
        for a, b in zip(
            found.weights + found.biases, expected.weights + expected.biases, strict=True
        ):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(to_device(tier.model).weights[0], before.weights[0])


@pytest.mark.parametrize("wrong", [(), ("int4",), ("int8", "int8")])
def test_precisions_that_make_no_sense_write_nothing(wrong, tmp_path):
    with pytest.raises(OptionError, match="precision"):
        build_protection("synthetic-ratings", out=tmp_path / "out", precisions=wrong, **SMALL)
    assert not (tmp_path / "out").exists()

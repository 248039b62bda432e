import json
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from privet.errors import DataError, OptionError
from privet.models import (
    LSTM,
    VGG16,
    DenseNet121,
    Factory,
    FullyConnected,
    ResNet18,
    ViT,
    describe,
    from_description,
)

COUNTS = st.integers(1, 12)
RATES = st.floats(0, 1, exclude_max=True)
HIDDEN = st.lists(COUNTS, min_size=1, max_size=4).map(tuple)
ARCHITECTURES = st.one_of(
    st.builds(FullyConnected, COUNTS, HIDDEN, COUNTS, RATES, RATES, st.booleans()),
    st.builds(ResNet18, COUNTS, COUNTS),
    st.builds(VGG16, COUNTS, COUNTS),
    st.builds(DenseNet121, COUNTS, COUNTS.map(lambda half: 2 * half)),
    st.builds(ViT, COUNTS, st.just(12), COUNTS, st.sampled_from([1, 2, 3, 12])),
    st.builds(LSTM, COUNTS, COUNTS, COUNTS),
)
LEAVES = (
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(-(10**30), 10**30)
)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))

FC = {
    "architecture": "fc",
    "inputs": 4,
    "hidden": [3],
    "outputs": 2,
    "dropout": 0.1,
    "input_dropout": 0.0,
    "sparse_input": False,
}
RESNET = {"architecture": "resnet18", "classes": 10, "width": 8}
VIT = {"architecture": "vit", "classes": 5, "width": 8, "depth": 2, "heads": 2}


def test_descriptions_are_flat_and_named():
    assert describe(FullyConnected(4, (3,), 2, dropout=0.1)) == FC
    assert describe(ResNet18(10, 8)) == RESNET
    assert describe(ViT(5, 8, depth=2, heads=2)) == VIT


@settings(max_examples=40, deadline=None)
@given(ARCHITECTURES)
def test_descriptions_survive_json_and_rebuild_the_same_architecture(architecture):
    rebuilt = from_description(json.loads(json.dumps(describe(architecture), allow_nan=False)))
    assert rebuilt == architecture
    assert type(rebuilt) is type(architecture)


def test_reading_a_description_draws_no_random_numbers():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for description in (FC, RESNET, VIT):
        from_description(description)
    assert torch.equal(torch.get_rng_state(), before)


@settings(max_examples=60, deadline=None)
@given(JSON | st.fixed_dictionaries({"architecture": JSON | st.sampled_from(["fc", "lstm"])}))
def test_any_json_is_an_architecture_or_refused(value):
    with pytest.raises(DataError):
        from_description(value)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([FC, RESNET, VIT]), st.data())
def test_one_hostile_field_is_read_as_it_should_be_or_refused(description, data):
    field = data.draw(st.sampled_from(sorted(description)))
    hostile = {**description, field: data.draw(JSON)}
    problem = ""
    try:
        read = describe(from_description(hostile))
    except DataError as error:
        problem = str(error)
    else:
        # 0 and 0.0 are the same rate, but True is not a size.
        assert read == hostile
        assert {key: type(one) is bool for key, one in read.items()} == {
            key: type(one) is bool for key, one in hostile.items()
        }
    assert len(problem) < 500
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        ([], r"must be an object; got \[\]"),
        ({}, "no architecture None"),
        ({**RESNET, "architecture": "os.system"}, "no architecture 'os.system'"),
        ({**RESNET, "architecture": ["fc"]}, r"no architecture \['fc'\]"),
        ({**RESNET, "architecture": "ResNet18"}, "choose from fc, resnet18"),
        ({"architecture": "resnet18", "classes": 10}, r"fields classes, width; .*\['width'\]"),
        ({**RESNET, "__class__": "x"}, r"missing or unknown: \['__class__'\]"),
        ({**RESNET, 3: 4}, r"unknown: \['3'\]"),
        ({**RESNET, "classes": "10"}, "classes .* cannot be '10'"),
        ({**RESNET, "classes": 10.0}, "classes .* cannot be 10.0"),
        ({**RESNET, "classes": True}, "classes .* cannot be True"),
        ({**RESNET, "classes": 0}, "makes no network: ResNet-18 needs a class"),
        ({**RESNET, "width": -1}, "makes no network"),
        ({**RESNET, "width": 10**9}, "width .* cannot be 1000000000"),
        ({**RESNET, "width": 10**400}, "width .* cannot be 1000"),
        ({**RESNET, "width": 10**6}, r"parameters; at most 500,000,000"),
        ({**FC, "hidden": 3}, "hidden .* cannot be 3"),
        ({**FC, "hidden": []}, "a hidden layer"),
        ({**FC, "hidden": [3, True]}, "hidden .* cannot be True"),
        ({**FC, "hidden": [3] * 101}, "hidden .* cannot be"),
        ({**FC, "hidden": [10**6] * 100}, "parameters; at most"),
        ({**FC, "dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({**FC, "dropout": float("nan")}, "dropout .* cannot be nan"),
        ({**FC, "dropout": float("inf")}, "dropout .* cannot be inf"),
        ({**FC, "dropout": 10**400}, "dropout .* cannot be 1000"),
        ({**FC, "sparse_input": 1}, "sparse_input .* cannot be 1"),
        ({**VIT, "depth": 10**6}, r"depth of ViT must lie in 1\.\.100"),
        ({**VIT, "heads": 3}, "multiple of 3"),
    ],
)
def test_hostile_descriptions_are_refused(hostile, message):
    with pytest.raises(DataError, match=message) as caught:
        from_description(hostile)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_network_of_someones_own_is_described_and_never_made_from_a_file():
    description = describe(Factory("antigravity:make"))
    assert description == {"architecture": "own", "path": "antigravity:make"}
    with pytest.raises(DataError, match=r"someone's own, 'antigravity:make', which is not run"):
        from_description(description)


def test_architectures_of_other_make_cannot_be_described():
    @dataclass(frozen=True)
    class Other:
        def build(self) -> nn.Module:
            return nn.Identity()

    with pytest.raises(OptionError, match="Other cannot be described; choose from fc"):
        describe(Other())

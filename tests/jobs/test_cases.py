"""What a run is about: data, split and network, from files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from privet import query
from privet.data.registry import load
from privet.errors import DataError, OptionError
from privet.jobs import cases
from privet.jobs.cases import Source, open_case, reopen_case
from privet.models import FullyConnected

FACTORY = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

def narrow():
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))

def double():
    return net().double()

def frozen():
    return net().requires_grad_(False)

def two():
    return nn.Linear(4, 2)

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, rows):
        return self.layer(rows), rows
"""


def people(file, count=90, *, seed=0, labels=("ash", "fir", "oak"), columns="abcd"):
    """Write a table whose labels have names; the last columns tell the class."""
    rng = np.random.default_rng(seed)
    lines = [",".join((*columns, "label"))]
    for i in range(count):
        cells = [f"{value:.4f}" for value in rng.random(len(columns))]
        lines.append(",".join((*cells, labels[i % len(labels)])))
    file.write_text("\n".join(lines) + "\n")
    return str(file)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "case_nets.py").write_text(FACTORY)
    people(tmp_path / "people.csv")
    people(tmp_path / "others.csv", 30, seed=1, labels=("oak", "ash"))
    network = FullyConnected(4, (256, 128), 3, dropout=0.1).build()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path


def assert_splits(case, parts):
    split = case.made.split
    found = [len(each) for each in (split.train, split.dev, split.test, split.attacker)]
    assert found == parts


def test_a_table_is_split_in_half(place):
    case = open_case(Source("people.csv", seed=3))
    assert_splits(case, [36, 3, 6, 45])
    assert case.architecture == FullyConnected(4, (256, 128), 3, dropout=0.1)
    assert case.settings["dataset"] == str(place / "people.csv")
    assert (case.settings["weights"], case.settings["weights_digest"]) == (None, None)


def test_test_rows_of_a_dataset_are_joined_to_both_halves(place, monkeypatch):
    table = load("people.csv")
    with_tests = replace(table, test=table.take(np.arange(40)))
    monkeypatch.setattr(cases, "load", lambda name: with_tests)
    case = open_case(Source("people.csv"))
    assert_splits(case, [36, 9, 20, 65])
    assert len(case.made.table) == 130
    assert case.made.split.train.max() < 90
    # Labels went along with their rows.
    np.testing.assert_array_equal(case.made.table.labels[90:], table.labels[:40])


def test_held_out_rows_leave_all_of_the_data_to_train(place):
    case = open_case(Source("people.csv", heldout="others.csv"))
    assert_splits(case, [90, 10, 20, 0])
    held_out = case.made.table.labels[90:]
    # The other file knows two of the classes, in another order.
    assert [case.made.table.class_names[label] for label in held_out[:3]] == ["oak", "ash", "oak"]


def test_given_weights_are_those_the_network_starts_with(place):
    source = Source("people.csv", weights="weights.safetensors", heldout="others.csv")
    case = open_case(source)
    loaded, fresh = case.build(), case.architecture.build()
    for name, tensor in load_file("weights.safetensors").items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert not torch.equal(fresh[0].weight, loaded[0].weight)


def test_weights_without_rows_the_network_never_met_are_refused(place):
    with pytest.raises(OptionError, match="--heldout"):
        open_case(Source("people.csv", weights="weights.safetensors"))


@pytest.mark.parametrize("content", [b"", b"no weights", b"\0" * 100])
def test_a_file_that_holds_no_weights_is_named(content, place):
    (place / "weights.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"weights\.safetensors"):
        open_case(Source("people.csv", weights="weights.safetensors", heldout="others.csv"))


def test_weights_of_another_network_are_refused(place):
    source = Source(
        "people.csv", model="case_nets:net", weights="weights.safetensors", heldout="others.csv"
    )
    with pytest.raises(DataError, match="do not fit the network"):
        open_case(source)


def test_a_missing_file_of_weights_is_named(place):
    with pytest.raises(DataError, match=r"no\.safetensors"):
        open_case(Source("people.csv", weights="no.safetensors", heldout="others.csv"))


@pytest.mark.parametrize("samples", [90, 50])
def test_some_of_the_rows(place, samples):
    case = open_case(Source("people.csv", samples=samples, seed=1))
    rows = case.made.table.inputs
    everyone = {tuple(row) for row in load("people.csv").inputs.tolist()}
    assert len(rows) == samples == len({tuple(row) for row in rows.tolist()})
    assert {tuple(row) for row in rows.tolist()} <= everyone
    other = open_case(Source("people.csv", samples=samples, seed=2))
    assert not np.array_equal(other.made.table.inputs, rows)


@pytest.mark.parametrize("samples", [-1, 91])
def test_more_rows_than_there_are_are_refused(place, samples):
    with pytest.raises(OptionError, match=rf"1\.\.90.*got {samples}"):
        open_case(Source("people.csv", samples=samples))


def test_a_network_of_ones_own(place):
    case = open_case(Source("people.csv", model="case_nets:net"))
    assert query.logits(case.build(), torch.zeros(2, 4)).shape == (2, 3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source("people.csv", model="case_nets:narrow"), r"rows of shape \(4,\)"),
        (Source("people.csv", model="case_nets:two"), "one logit for each of 3 classes"),
        (Source("people.csv", model="case_nets:Pair"), "as a tensor; got tuple"),
        (Source("people.csv", model="case_nets:double"), r"pass model\.float\(\)"),
        (Source("people.csv", model="case_nets:frozen"), r"requires_grad_\(True\)"),
        (Source("people.csv", width=4), "no width"),
        (Source("people.csv", model="resnet18"), "resnet18"),
        (Source("people.csv", model="oracle"), "oracle"),
        (Source("people.csv", model="case_nets:oak"), "oak"),
        (Source("no.csv"), r"no\.csv"),
        (Source("people.csv", heldout="no.csv"), r"no\.csv"),
        (Source("people.csv", canaries=1), "canaries"),
    ],
)
def test_what_does_not_fit_is_named(source, message, place):
    state = torch.random.get_rng_state()
    with pytest.raises((DataError, OptionError), match=message):
        open_case(source)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_width_of_an_image_network(place):
    rng = np.random.default_rng(0)
    np.savez("images.npz", X=rng.random((60, 3, 8, 8)).astype("f4"), y=np.arange(60) % 2)
    state = torch.random.get_rng_state()
    case = open_case(Source("images.npz", model="resnet18", width=4))
    assert case.architecture.width == 4
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_case_is_opened_again_as_it_was(place):
    source = Source(
        "people.csv",
        weights="weights.safetensors",
        heldout="others.csv",
        samples=60,
        seed=5,
    )
    case, again = open_case(source), reopen_case(open_case(source).settings)
    np.testing.assert_array_equal(case.made.table.inputs, again.made.table.inputs)
    np.testing.assert_array_equal(case.made.table.labels, again.made.table.labels)
    np.testing.assert_array_equal(case.made.split.test, again.made.split.test)
    assert case.settings == again.settings


def test_a_case_is_found_from_another_folder(place, monkeypatch):
    settings = open_case(
        Source("people.csv", weights="weights.safetensors", heldout="others.csv")
    ).settings
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert reopen_case(settings).settings == settings


@pytest.mark.parametrize("changed", ["people.csv", "others.csv", "weights.safetensors"])
def test_data_or_weights_that_changed_are_refused(changed, place):
    settings = open_case(
        Source("people.csv", weights="weights.safetensors", heldout="others.csv")
    ).settings
    if changed == "weights.safetensors":
        network = FullyConnected(4, (256, 128), 3, dropout=0.1).build()
        save_file(network.state_dict(), place / changed)
    else:
        lines = (place / changed).read_text().splitlines()
        (place / changed).write_text("\n".join([*lines[:-1], lines[-1].replace("0.", "1.")]))
    with pytest.raises(DataError, match="has changed since"):
        reopen_case(settings)


def test_canaries_in_a_network_that_comes_trained_are_refused(place):
    source = Source("people.csv", weights="weights.safetensors", heldout="others.csv", canaries=4)
    with pytest.raises(OptionError, match="comes trained"):
        open_case(source)


def test_a_network_whose_code_changed_is_refused(place):
    settings = open_case(Source("people.csv")).settings
    with pytest.raises(DataError, match="network"):
        reopen_case({**settings, "network": "another"})

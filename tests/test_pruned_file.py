"""Pruned networks as files: round trips, sizes, and files that someone else has made."""

import hashlib
import json
import resource
import struct
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

import privet
from models.model_cases import SMALL, halved, inputs_for
from privet.errors import DataError, OptionError
from privet.models import Factory, FullyConnected, ResNet18, describe, parameters
from privet.pruned_file import load_pruned, write_pruned
from privet.pruning import keep_at
from privet.pruning.magnitude import Magnitude

# Tracing its 121 layers takes its time.
EACH = [
    pytest.param(name, marks=pytest.mark.slow if name == "densenet121" else ()) for name in SMALL
]
WIDE = FullyConnected(64, (96, 80), 10, dropout=0.1)


def magnitude(network, example, sparsity=0.9):
    pruner = Magnitude()
    pruner.prune(network, keep_at(pruner.sizes(network, example), sparsity), example)
    return network


def wide(sparsity=0.9):
    torch.manual_seed(0)
    return magnitude(WIDE.build(), torch.zeros(1, 64), sparsity)


def body(path):
    """Return how many bytes of a file are not its header."""
    content = path.read_bytes()
    return len(content) - 8 - struct.unpack("<Q", content[:8])[0]


def bits(tensor):
    """Return a tensor's bytes, zeros without their sign."""
    return (tensor + 0 if tensor.is_floating_point() else tensor).numpy().tobytes()


def assert_same(found, expected):
    first, second = found.state_dict(), expected.state_dict()
    assert list(first) == list(second)
    for name, tensor in first.items():
        assert (tensor.dtype, tensor.shape) == (second[name].dtype, second[name].shape), name
        assert bits(tensor) == bits(second[name]), name


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("pruned") / "wide.safetensors"
    write_pruned(path, wide(), WIDE, about={"sparsity": 0.9})
    return path.read_bytes()


@pytest.mark.parametrize("prune", [magnitude, halved])
@pytest.mark.parametrize("name", EACH)
def test_round_trips_are_exact(name, prune, tmp_path):
    torch.manual_seed(0)
    network, inputs = SMALL[name].build(), inputs_for(name)
    network(inputs)  # running statistics and counters that are no longer the initial ones
    prune(network, inputs)
    write_pruned(tmp_path / "a.safetensors", network, SMALL[name], about={})
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    found = privet.load_pruned(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(module.training for module in found.modules())
    assert_same(found, network)
    assert str(found) == str(network)  # the sizes that layers claim
    assert torch.equal(found(inputs), network.eval()(inputs))
    found.train()(inputs).sum().backward()
    assert all(parameter.grad is not None for parameter in found.parameters())


@given(
    seed=st.integers(0, 2**32), widths=st.tuples(*[st.integers(1, 60)] * 2), kept=st.floats(0, 1)
)
@settings(max_examples=40, deadline=None)
def test_any_mask_round_trips(tmp_path_factory, seed, widths, kept):
    path = tmp_path_factory.getbasetemp() / "masked.safetensors"
    architecture = FullyConnected(widths[0], (widths[1],), 2)
    torch.manual_seed(seed)
    network = architecture.build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= torch.rand_like(parameter) < kept
    write_pruned(path, network, architecture, about={})
    assert_same(load_pruned(path), network)


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_sparse_files_are_as_small_as_the_mask_allows(sparsity, tmp_path):
    write_pruned(tmp_path / "full", wide(sparsity), WIDE, about={})
    write_pruned(tmp_path / "half", wide(sparsity), WIDE, about={}, half=True)
    sizes = (64 * 96, 96 * 80)
    kept = sum(round((1 - sparsity) * size) for size in sizes)
    masks, vectors, last = sum(sizes) // 8, 96 + 80 + 10, 80 * 10
    assert body(tmp_path / "full") == 4 * (kept + vectors + last) + masks
    assert body(tmp_path / "half") == 2 * (kept + last) + 4 * vectors + masks
    dense = 4 * (sum(sizes) + vectors + last)
    expected = (1 - sparsity + 1 / 32) * 4 * sum(sizes) / dense
    assert body(tmp_path / "full") / dense == pytest.approx(expected, abs=0.07)


@pytest.mark.parametrize("name", EACH)
def test_structural_files_hold_what_is_left_and_no_more(name, tmp_path):
    torch.manual_seed(0)
    network = halved(SMALL[name].build(), inputs_for(name))
    write_pruned(tmp_path / "a", network, SMALL[name], about={})
    left = sum(tensor.nbytes for tensor in network.state_dict().values())
    dense = sum(tensor.nbytes for tensor in SMALL[name].build().state_dict().values())
    # Less only where initial zeros are worth packing.
    assert 0.9 * left < body(tmp_path / "a") <= left < 0.65 * dense


def test_half_precision_rounds_weights_and_leaves_vectors(tmp_path):
    torch.manual_seed(0)
    network = SMALL["resnet18"].build()
    network(inputs_for("resnet18"))
    write_pruned(tmp_path / "a", network, SMALL["resnet18"], about={}, half=True)
    for name, found in load_pruned(tmp_path / "a").state_dict().items():
        original = network.state_dict()[name]
        assert found.dtype == original.dtype
        assert torch.equal(found, original.half().float() if original.ndim > 1 else original)


def test_zeros_keep_their_sign_unless_packed(tmp_path):
    network = wide()
    with torch.no_grad():
        network[0].bias[0] = -0.0
    write_pruned(tmp_path / "a", network, WIDE, about={})
    found = load_pruned(tmp_path / "a")
    assert found[0].bias[0].signbit()
    assert network[0].weight[network[0].weight == 0].signbit().any()
    assert not found[0].weight[found[0].weight == 0].signbit().any()


def test_equal_networks_give_equal_files(content, tmp_path):
    write_pruned(tmp_path / "a", wide(), WIDE, about={"sparsity": 0.9})
    assert (tmp_path / "a").read_bytes() == content
    write_pruned(tmp_path / "b", load_pruned(tmp_path / "a"), WIDE, about={"sparsity": 0.9})
    assert (tmp_path / "b").read_bytes() == content


def test_the_page_is_enough_to_read_one(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    network = wide()
    with safe_open(tmp_path / "a", framework="np") as file:
        document = json.loads(file.metadata()["privet"])
        values, mask = (file.get_tensor(f"0.weight:{part}") for part in ("values", "mask"))
        bias = file.get_tensor("0.bias")
    assert document["about"] == {"sparsity": 0.9}
    assert document["architecture"] == describe(WIDE)
    rows, columns = document["packed"]["0.weight"]
    weight, read = np.zeros((rows, columns), np.float32), 0
    for place in range(rows * columns):
        if mask[place // 8] >> place % 8 & 1:
            weight[place // columns, place % columns] = values[read]
            read += 1
    np.testing.assert_array_equal(weight, network[0].weight.detach())
    np.testing.assert_array_equal(bias, network[0].bias.detach())


def test_the_page_is_enough_to_write_one(tmp_path):
    architecture = FullyConnected(9, (2,), 2)
    network = architecture.build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[1, 7] = 3.0  # place 16
        network[0].weight[0, 1] = 2.0
    tensors = {
        "0.weight:values": np.array([2, 3], np.float32),
        "0.weight:mask": np.array([2, 0, 1], np.uint8),
        "0.bias": np.zeros(2, np.float32),
        "2.weight": np.zeros((2, 2), np.float16),
        "2.bias": np.zeros(2, np.float32),
    }
    text = json.dumps(
        {
            "format": "privet-pruned",
            "version": 1,
            "architecture": describe(architecture),
            "packed": {"0.weight": [2, 9]},
            "about": {},
        }
    )
    digest = hashlib.sha256(text.encode())
    names = {"float32": "F32", "uint8": "U8", "float16": "F16"}
    for name, array in sorted(tensors.items()):
        shape = "x".join(map(str, array.shape))
        digest.update(f"\n{name} {names[str(array.dtype)]} {shape}\n".encode() + array.tobytes())
    save_file(tensors, tmp_path / "a", {"privet": text, "digest": digest.hexdigest()})
    assert_same(load_pruned(tmp_path / "a"), network)


def own_network():
    return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.BatchNorm1d(96), nn.Linear(96, 3))


def test_a_network_of_ones_own_needs_its_factory(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "own_module", sys.modules[__name__])
    factory = Factory("own_module:own_network")
    torch.manual_seed(0)
    network, example = own_network(), torch.rand(4, 64)
    network(example)
    magnitude(halved(network, example), example)
    write_pruned(tmp_path / "a", network, factory, about={})
    with pytest.raises(DataError, match=r"'own_module:own_network'.* name it yourself"):
        load_pruned(tmp_path / "a")
    assert_same(load_pruned(tmp_path / "a", factory), network)
    with pytest.raises(OptionError, match="no module nowhere"):
        load_pruned(tmp_path / "a", Factory("nowhere:network"))
    with pytest.raises(DataError, match="do not fit"):
        load_pruned(tmp_path / "a", WIDE)


@pytest.mark.parametrize(
    ("change", "architecture", "about", "message"),
    [
        (lambda network: network[0].bias.fill_(torch.nan), WIDE, {}, "0.bias holds NaN"),
        (lambda network: network[0].weight.fill_(1e6), WIDE, {}, "infinite values in F16"),
        (lambda network: None, ResNet18(10, 8), {}, "do not fit"),
        (lambda network: None, FullyConnected(64, (95, 80), 10, 0.1), {}, "only shrinks"),
        (lambda network: None, WIDE, {"epsilon": float("inf")}, "plain JSON"),
        (lambda network: None, WIDE, {"run": object()}, "plain JSON"),
        (lambda network: None, WIDE, {"note": "x" * (4 << 20)}, "a header of"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(change, architecture, about, message, tmp_path):
    network = wide()
    with torch.no_grad():
        change(network)
    with pytest.raises(DataError, match=message):
        write_pruned(tmp_path / "a", network, architecture, about=about, half=True)
    assert list(tmp_path.iterdir()) == []


def test_names_that_clash_are_refused(tmp_path, monkeypatch):
    def build():
        network = nn.Sequential(nn.Linear(64, 64))
        network[0].register_buffer("weight:mask", torch.ones(512))
        nn.init.zeros_(network[0].weight)
        return network

    monkeypatch.setitem(sys.modules, "own_module", sys.modules[__name__])
    monkeypatch.setattr(sys.modules[__name__], "clashing", build, raising=False)
    with pytest.raises(OptionError, match="must not end in"):
        write_pruned(tmp_path / "a", build(), Factory("own_module:clashing"), about={})


def rebuilt(content, *, header=None, document=None, tensors=None):
    """The file again, its header, document or tensors edited, with a digest that matches."""
    (length,) = struct.unpack("<Q", content[:8])
    head, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = head.pop("__metadata__")
    parts = {name: data[slice(*entry["data_offsets"])] for name, entry in head.items()}
    text = metadata["privet"]
    if document is not None:
        text = json.dumps({**json.loads(text), **document})
    for name, (dtype, shape, values) in (tensors or {}).items():
        head[name], parts[name] = {"dtype": dtype, "shape": shape}, values
    digest, end = hashlib.sha256(text.encode()), 0
    for name in sorted(head):
        entry = head[name]
        shape = "x".join(map(str, entry["shape"]))
        digest.update(f"\n{name} {entry['dtype']} {shape}\n".encode() + parts[name])
        entry["data_offsets"] = [end, end := end + len(parts[name])]
    whole = {"__metadata__": {"privet": text, "digest": digest.hexdigest()}, **head}
    if header is not None:
        header(whole)
    raw = json.dumps(whole).encode()
    return struct.pack("<Q", len(raw)) + raw + b"".join(parts[name] for name in sorted(parts))


def refused(tmp_path, content, match=None):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=match) as caught:
        load_pruned(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < 400 + len(str(path))


def test_the_editor_of_these_tests_makes_good_files(content, tmp_path):
    (tmp_path / "a").write_bytes(rebuilt(content))
    assert_same(load_pruned(tmp_path / "a"), wide())


MASK = bytes(768)  # of 64 x 96 places
ONE = struct.pack("<f", 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"0.weight:mask": ("U8", [768], MASK)}, "does not mark 614 values"),
        ({"0.weight:mask": ("U8", [767], MASK[1:])}, "do not fit its shape"),
        ({"0.weight:mask": ("U8", [768, 1], MASK)}, "do not fit its shape"),
        ({"0.weight:mask": ("I8", [768], MASK)}, "do not fit its shape"),
        ({"0.weight:values": ("F32", [1, 1], ONE)}, "do not fit its shape"),
        ({"0.weight:values": ("F32", [6145], 6145 * ONE)}, "do not fit its shape"),
        ({"0.weight:values": ("F32", [613], 613 * ONE)}, "does not mark 613 values"),
        ({"0.weight:values": ("I32", [614], 614 * ONE)}, "holds torch.int32"),
        ({"0.weight:values": ("F32", [614], 614 * struct.pack("<f", np.nan))}, "0.weight holds"),
        ({"0.bias": ("F64", [96], 96 * struct.pack("<d", 1e300))}, "0.bias holds NaN or inf"),
        ({"0.bias": ("F16", [96], 96 * b"\0\x7c")}, "0.bias holds NaN or inf"),
        ({"0.bias": ("F32", [97], 97 * ONE)}, "only shrinks"),
        ({"0.bias": ("F32", [95], 95 * ONE)}, "layer 0 contradict"),
        ({"0.bias": ("F32", [], ONE)}, "only shrinks"),
        ({"9.bias": ("F32", [1], ONE)}, "1 names"),
        ({"0.weight": ("F32", [96, 64], 6144 * ONE)}, "values and mask, and so only"),
        ({"__class__": ("F32", [1], ONE)}, "1 names"),
    ],
)
def test_hostile_tensors_are_refused(changes, message, content, tmp_path):
    refused(tmp_path, rebuilt(content, tensors=changes), message)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"format": "privet-bundle"}, "not 'privet-pruned'"),
        ({"version": 2}, "update privet"),
        ({"version": True}, "update privet"),
        ({"more": 1}, "unknown: .*more"),
        ({"about": []}, "must be objects"),
        ({"about": float("nan")}, "holds the number NaN"),
        ({"packed": ["0.weight", "3.weight"]}, "must be objects"),
        ({"packed": {}}, "names"),
        ({"packed": {"0.weight": [96, 64]}}, "names"),
        ({"packed": {"0.bias": [96]}}, "stored as values and mask"),
        ({"packed": {"0.weight": [64, 96], "3.weight": [80, 96]}}, "only shrinks"),
        ({"packed": {"0.weight": [6144], "3.weight": [80, 96]}}, "only shrinks"),
        ({"packed": {"0.weight": [96, 65], "3.weight": [80, 96]}}, "do not fit its shape"),
        ({"packed": {"0.weight": [-96, -64], "3.weight": [80, 96]}}, "bad shape"),
        ({"packed": {"0.weight": [True, 6144], "3.weight": [80, 96]}}, "bad shape"),
        ({"packed": {"0.weight": [2**40, 2**40], "3.weight": [80, 96]}}, "bad shape"),
        ({"packed": {"0.weight": "x", "3.weight": [80, 96]}}, "bad shape"),
        ({"architecture": None}, "must be an object"),
        ({"architecture": {"architecture": "os.system"}}, "no architecture"),
        ({"architecture": {"architecture": "own", "path": "os:abort"}}, "not run because"),
        ({"architecture": {**describe(WIDE), "hidden": [10**6, 10**6]}}, "at most 500,000,000"),
        ({"architecture": {**describe(WIDE), "inputs": 10**9}}, "inputs"),
    ],
)
def test_hostile_documents_are_refused(document, message, content, tmp_path):
    refused(tmp_path, rebuilt(content, document=document), message)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (lambda head: head["0.bias"].update(shape=[2**40]), "bad shape"),
        (lambda head: head["0.bias"].update(shape=[2**31, 2**31]), "bytes it claims"),
        (lambda head: head["0.bias"].update(shape=[1] * 9), "bad shape"),
        (lambda head: head["0.bias"].update(dtype="F8_E4M3"), "dtype"),
        (lambda head: head["0.bias"].update(dtype=[]), None),
        (lambda head: head["0.bias"].update(dtype="I32"), "int32"),
        (lambda head: head["0.bias"].update(data_offsets=[4, 388]), "overlap"),
        (lambda head: head["0.bias"].update(data_offsets=[384]), "start and end"),
        (lambda head: head["0.bias"].update(data_offsets="ab"), "start and end"),
        (lambda head: head["0.bias"].update(more=1), "described by"),
        (lambda head: head.update({"0.bias": None}), None),
        (lambda head: head.pop("0.bias"), "overlap"),
        (lambda head: head.pop("__metadata__"), "metadata"),
        (lambda head: head["__metadata__"].update(digest="0" * 64), "digest does not match"),
        (lambda head: head["__metadata__"].update(digest=1), "object of strings"),
        (lambda head: head["__metadata__"].update(more="x"), "exactly"),
        (lambda head: head["__metadata__"].update(privet="[]"), "must be an object"),
        (lambda head: head["__metadata__"].update(privet="[" * 99_999), None),
        (lambda head: head["__metadata__"].update(privet='{"a":' * 40 + "1" + "}" * 40), "nested"),
        (lambda head: head["__metadata__"].update(privet='{"a":1,"a":1}'), "key twice"),
    ],
)
def test_hostile_headers_are_refused(header, message, content, tmp_path):
    refused(tmp_path, rebuilt(content, header=header), message)


def test_a_huge_architecture_with_a_tiny_file_costs_little(content, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hostile = {"architecture": {**describe(WIDE), "inputs": 10**6, "hidden": [300, 300]}}
    (tmp_path / "a").write_bytes(rebuilt(content, document=hostile))
    assert parameters(load_pruned(tmp_path / "a")) == parameters(WIDE.build())
    # A gigabyte, were it built.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_files_cut_anywhere_and_other_files_are_refused(content, tmp_path):
    for end in [*range(0, 40), *range(40, len(content), 97), len(content) - 1]:
        refused(tmp_path, content[:end])
    refused(tmp_path, content + b"\0", "end with the file")
    refused(tmp_path, struct.pack("<Q", 2**63) + content[8:], "not a safetensors")
    refused(tmp_path, b"\x80\x04cos\nsystem\n(S'true'\ntR.", "not a safetensors")
    with pytest.raises(DataError, match=r"cannot read .*No such file"):
        load_pruned(tmp_path / "missing")
    with pytest.raises(DataError, match="cannot read"):
        load_pruned(tmp_path)


@given(flips=st.dictionaries(st.integers(0, 2**20), st.integers(1, 255), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_flipped_bytes_are_noticed_or_harmless(tmp_path_factory, content, flips):
    damaged = bytearray(content)
    header = struct.unpack("<Q", content[:8])[0]
    for place, mask in flips.items():
        # Half of them in the header, which is a small part of the file.
        damaged[place % (len(content) if place % 2 else header + 8)] ^= mask
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(damaged)
    try:
        found = load_pruned(path)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert_same(found, wide())  # e.g. one blank of the header turned into another


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_noise_is_refused(tmp_path_factory, noise):
    refused(tmp_path_factory.getbasetemp(), noise)

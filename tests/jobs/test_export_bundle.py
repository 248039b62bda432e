"""A bundle's defense model as ONNX answers as the device does, or there is no file."""

import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from privet.device import Bundle, Network, write_bundle
from privet.errors import BundleError, DataError, OptionError
from privet.jobs import export_bundle as module
from privet.jobs.export_bundle import export_bundle, export_tiers, to_torch

SIZES = {"attribute": (30, 12, 4), "membership": (6, 10, 8, 1)}


def network_of(sizes, *, seed=0):
    rng = np.random.default_rng(seed)
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    weights = tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return Network(weights, tuple(rng.normal(size=s[0]).astype(np.float32) for s in shapes))


def answers(path, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"inputs": inputs.astype(np.float32)})[0]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with a bundle of each kind, and the ONNX files of a build that names them."""
    folder = tmp_path_factory.mktemp("built")
    tiers = [{"bundle": None}]
    digests = {}
    for kind, sizes in SIZES.items():
        path = folder / f"{kind}-x50.safetensors"
        digests[kind] = write_bundle(Bundle(kind, network_of(sizes), card={"secret": "s3"}), path)
        # The folder may have moved since the build.
        tiers.append({"bundle": f"/elsewhere/{path.name}"})
    return folder, digests, {each["kind"]: each for each in export_tiers(tiers, folder)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SIZES)
def test_the_file_answers_as_the_device_does(kind, built):
    folder, digests, written = built
    told = written[kind]
    path = folder / f"{kind}-x50.onnx"
    assert (told["file"], told["bytes"]) == (str(path), path.stat().st_size)
    assert (told["kind"], told["digest"]) == (kind, digests[kind])
    assert told["layers"] == list(SIZES[kind])
    assert max(told["difference"], told["device_difference"]) < 1e-5
    network = network_of(SIZES[kind])
    for count in (1, 2, 9):
        inputs = np.random.default_rng(count).random((count, SIZES[kind][0]))
        np.testing.assert_allclose(answers(path, inputs), network.logits(inputs), atol=1e-5)


@pytest.mark.slow
def test_a_membership_model_is_as_private_as_its_bundle(built):
    folder, _, _ = built
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.glob("*.onnx")}
    assert modes == {"attribute-x50.onnx": 0o644, "membership-x50.onnx": 0o600}
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_the_file_holds_the_network_and_tells_nothing_else(built):
    model = onnx.load(built[0] / "attribute-x50.onnx")
    onnx.checker.check_model(model, full_check=True)
    held = [onnx.numpy_helper.to_array(each) for each in model.graph.initializer]
    network = network_of(SIZES["attribute"])
    for array in (*network.weights, *network.biases):
        assert any(np.array_equal(array, found) for found in held)
    content = (built[0] / "attribute-x50.onnx").read_bytes()
    assert b"s3" not in content
    assert b".py" not in content
    assert len(content) < 4 * network.parameters + 2000


@pytest.mark.slow
def test_builds_leave_one_file_a_bundle(built):
    names = {path.name for path in built[0].iterdir()}
    assert names == {f"{kind}-x50{end}" for kind in SIZES for end in (".onnx", ".safetensors")}


@pytest.mark.parametrize("sizes", SIZES.values())
def test_the_torch_network_is_the_same_and_draws_nothing(sizes):
    network = network_of(sizes)
    state = torch.get_rng_state()
    copy = to_torch(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert not copy.training
    inputs = np.random.default_rng(1).random((5, sizes[0])).astype(np.float32)
    before = network.logits(inputs)
    found = copy(torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(network.logits(inputs), before)


@pytest.mark.parametrize("kind", SIZES)
def test_records_to_compare_on_are_of_the_bundles_kind(kind):
    records = module._records(Bundle(kind, network_of(SIZES[kind])))
    assert records.shape == (module.RECORDS, SIZES[kind][0])
    assert records.dtype == np.float32
    assert records.min() >= 0
    assert records.max() <= 1
    if kind == "membership":
        np.testing.assert_allclose(records.sum(axis=1), 1, atol=1e-6)
        assert (np.diff(records, axis=1) >= 0).all()
    else:
        assert not records[0].any()
        assert 0 < (records > 0).mean() < 0.3


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "bundle.safetensors"
    write_bundle(Bundle("attribute", network_of(SIZES["attribute"])), path)
    return path


def test_a_network_that_torch_computes_otherwise_is_not_written(path, tmp_path, monkeypatch):
    def drifted(network):
        copy = to_torch(network)
        with torch.no_grad():
            copy[-1].bias += 0.01
        return copy

    monkeypatch.setattr(module, "to_torch", drifted)
    with pytest.raises(DataError, match=r"differ by 0\.01, and"):
        export_bundle(path, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == [path]


def test_nan_is_a_difference(path, tmp_path, monkeypatch):
    def broken(network):
        copy = to_torch(network)
        torch.nn.init.constant_(copy[-1].bias, torch.nan)
        return copy

    monkeypatch.setattr(module, "to_torch", broken)
    with pytest.raises(DataError, match="differ by nan"):
        export_bundle(path, tmp_path / "a.onnx")


def test_places_that_make_no_sense_are_refused(path, tmp_path):
    with pytest.raises(OptionError, match=r"as \.onnx; got"):
        export_bundle(path, tmp_path / "a.safetensors")
    same = path.rename(tmp_path / "bundle.onnx")
    before = same.read_bytes()
    with pytest.raises(OptionError, match="the bundle itself"):
        export_bundle(same, tmp_path / "." / "bundle.onnx")
    assert same.read_bytes() == before


def test_what_is_no_bundle_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"not a bundle at all")
    with pytest.raises(BundleError):
        export_bundle(tmp_path / "a", tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_a_missing_package_is_named(path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(OptionError, match=r"privet\[onnx\]"):
        export_bundle(path, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == [path]

"""`privet export`: from a finished run to a file that others use."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import privet
from privet.cli import run
from privet.data.registry import load
from privet.models import Factory, parameters

QUICK = ["--epochs", "1", "--dense-epochs", "1", "--rounds", "1", "--sparsity", "0.9"]
FACTORY = """
from torch import nn

def network():
    hidden = nn.Sequential(nn.Linear(2, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU())
    return nn.Sequential(hidden, nn.Linear(40, 2))
"""


def pruned(folder, data, *more):
    assert run(["prune", str(data), "--out", str(folder), *QUICK, *more]) == 0
    return folder


def exported(capsys, folder, out, *more):
    capsys.readouterr()
    assert run(["export", str(folder), "--out", str(out), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def about(path):
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["privet"])["about"]


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    return pruned(tmp_path_factory.mktemp("runs") / "sparse", "digits")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "people.csv"
    rows = np.random.default_rng(0).random((80, 2))
    path.write_text("a,b,label\n" + "".join(f"{a:.3f},{b:.3f},{int(a > b)}\n" for a, b in rows))
    return path


def test_a_sparse_network_becomes_a_small_file(sparse, tmp_path, capsys):
    out = tmp_path / "digits.safetensors"
    written = exported(capsys, sparse, out)
    assert written["file"] == str(out)
    assert written["bytes"] == out.stat().st_size < 0.2 * written["dense_bytes"]
    network, weights = privet.load_pruned(out), load_file(sparse / "stages" / "model.safetensors")
    assert all(torch.equal(weights[name], found) for name, found in network.state_dict().items())
    result = json.loads((sparse / "run.json").read_text())["result"]
    assert written["parameters"] == result["parameters"] == parameters(network)
    assert written["nonzero"] == result["nonzero"] < 0.2 * written["parameters"]
    half = exported(capsys, sparse, tmp_path / "half.safetensors", "--half")
    assert half["bytes"] < 0.7 * written["bytes"]


def test_the_file_tells_what_was_measured_and_not_who_trained(sparse, tmp_path, capsys):
    exported(capsys, sparse, tmp_path / "a.safetensors")
    result = json.loads((sparse / "run.json").read_text())["result"]
    told = about(tmp_path / "a.safetensors")
    assert told["dataset"] == "digits"
    for name in ("defense", "pruner", "sparsity", "test_accuracy", "dense_test_accuracy"):
        assert told[name] == result[name]
    assert "seed" not in told
    assert "scores" not in told


@pytest.mark.slow
def test_an_onnx_file_answers_as_the_network(sparse, tmp_path, capsys):
    written = exported(capsys, sparse, tmp_path / "digits.onnx")
    assert 0 <= written["difference"] < 1e-4
    exported(capsys, sparse, tmp_path / "a.safetensors")
    inputs = load("digits").inputs[:5]
    session = onnxruntime.InferenceSession(
        tmp_path / "digits.onnx", providers=["CPUExecutionProvider"]
    )
    expected = privet.load_pruned(tmp_path / "a.safetensors")(torch.from_numpy(inputs))
    (answers,) = session.run(None, {"inputs": inputs})
    np.testing.assert_allclose(answers, expected.detach(), atol=1e-4)


def test_a_structural_file_is_smaller_by_the_units_removed(tmp_path, capsys):
    folder = pruned(tmp_path / "run", "digits", "--pruner", "structural")
    written = exported(capsys, folder, tmp_path / "a.safetensors")
    result = json.loads((folder / "run.json").read_text())["result"]
    assert written["parameters"] == result["parameters"] < 0.2 * result["dense_parameters"]
    assert written["bytes"] < 0.2 * written["dense_bytes"]
    assert parameters(privet.load_pruned(tmp_path / "a.safetensors")) == written["parameters"]


def test_a_network_of_ones_own(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "exported_network.py").write_text(FACTORY)
    folder = pruned(tmp_path / "run", table, "--model", "exported_network:network")
    exported(capsys, folder, tmp_path / "a.safetensors")
    found = privet.load_pruned("a.safetensors", Factory("exported_network:network"))
    weights = load_file(folder / "stages" / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in found.state_dict().items())
    # Where the table lies is nobody's business.
    assert about("a.safetensors")["dataset"] == "people.csv"
    assert str(table.parent).encode() not in (tmp_path / "a.safetensors").read_bytes()


def test_answers_that_a_service_must_change_are_told(tmp_path, capsys):
    folder = pruned(tmp_path / "run", "digits", "--defense", "hamp")
    capsys.readouterr()
    assert run(["export", str(folder), "--out", str(tmp_path / "a.safetensors")]) == 0
    heard = capsys.readouterr()
    assert "hamp also changes" in heard.err
    assert "% of the network before pruning" in heard.out
    assert about(tmp_path / "a.safetensors")["answers_changed_by"] == "hamp"


@pytest.mark.parametrize(
    ("out", "more", "word"),
    [
        ("a.pt", (), "ends in .safetensors or .onnx"),
        ("a.onnx", ("--half",), "--half"),
        ("{run}/stages/model.safetensors", (), "run's own files"),
    ],
)
def test_bad_options_are_one_line_and_change_nothing(out, more, word, sparse, tmp_path, capsys):
    before = {file: file.read_bytes() for file in sparse.rglob("*") if file.is_file()}
    out = out.format(run=sparse) if "{" in out else tmp_path / out
    capsys.readouterr()
    assert run(["export", str(sparse), "--out", str(out), *more]) == 2
    message = capsys.readouterr().err
    assert word in message
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert {file: file.read_bytes() for file in sparse.rglob("*") if file.is_file()} == before


def test_runs_that_cannot_be_exported(sparse, tmp_path, capsys):
    record = json.loads((sparse / "run.json").read_text())
    for change, word in (
        ({"result": None}, "not finished"),
        ({"kind": "tune"}, "of kind 'tune'"),
        ({"stages": {"model": {}}}, "another version"),
    ):
        folder = tmp_path / "run"
        (folder / "stages").mkdir(parents=True, exist_ok=True)
        model = (sparse / "stages" / "model.safetensors").read_bytes()
        (folder / "stages" / "model.safetensors").write_bytes(model)
        (folder / "run.json").write_text(json.dumps({**record, **change}))
        capsys.readouterr()
        assert run(["export", str(folder), "--out", str(tmp_path / "a.safetensors")]) == 2
        assert word in capsys.readouterr().err
    assert run(["export", str(tmp_path / "no"), "--out", str(tmp_path / "a.onnx")]) == 2
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.slow
def test_a_missing_extra_is_named(sparse, tmp_path):
    script = "import sys; sys.modules['onnxruntime'] = None; from privet.cli import main; main()"
    out = tmp_path / "a.onnx"
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        script,
        "export",
        str(sparse),
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "pip install 'privet[onnx]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_a_bundle_becomes_onnx(tmp_path, capsys):
    bundle = tmp_path / "b.safetensors"
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(8, 5)).astype("f4"), rng.normal(size=(3, 8)).astype("f4"))
    network = privet.device.Network(weights, (np.zeros(8, "f4"), np.zeros(3, "f4")))
    privet.device.write_bundle(privet.device.Bundle("attribute", network), bundle)
    written = exported(capsys, bundle, tmp_path / "b.onnx")
    assert written["layers"] == [5, 8, 3]
    records = rng.random((4, 5)).astype("f4")
    session = onnxruntime.InferenceSession(tmp_path / "b.onnx")
    (logits,) = session.run(["logits"], {"inputs": records})
    np.testing.assert_allclose(logits, network.logits(records), atol=1e-4)
    assert run(["export", str(bundle), "--out", str(tmp_path / "c.onnx"), "--half"]) == 2
    assert run(["export", str(bundle), "--out", str(tmp_path / "c.safetensors")]) == 2
    assert len(list(tmp_path.iterdir())) == 2

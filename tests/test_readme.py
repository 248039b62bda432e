"""The README's Python examples run as they stand, in order, in one go."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from privet.cli import run
from privet.demo import run_demo
from privet.device import Bundle, Network, write_bundle
from privet.files import read_json

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with what the examples take from the commands above them."""
    run_demo(tmp_path / "demo")
    rng = np.random.default_rng(0)
    sizes = (30, 8, 1)
    weights = [rng.normal(size=(b, a)).astype(np.float32) for a, b in itertools.pairwise(sizes)]
    biases = [np.zeros(units, np.float32) for units in sizes[1:]]
    network = Network(tuple(weights), tuple(biases))
    (tmp_path / "location").mkdir()
    write_bundle(Bundle("membership", network), tmp_path / "location/location-x20.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_examples_run(folder, capsys):
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(examples) == 6
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, str(README), "exec"), names)  # noqa: S102
    printed = capsys.readouterr().out
    assert all(attack in printed for attack in ("conf", "mentr", "gap", "lira", "rmia"))
    report = names["report"]
    assert {f["attack"] for f in report["findings"]} == {"conf", "gap", "lira", "rmia"}
    assert all(finding["auc"] > 0.55 for finding in report["findings"])
    command = "audit --signals target.npz --reference others.npz --attacks lira --out found.json"
    assert run(command.split()) == 0
    assert read_json(folder / "found.json")["findings"][0]["auc"] > 0.8
    np.testing.assert_allclose(names["release"].records.sum(axis=1), 1)
    assert (folder / "demo/report.html").stat().st_size > 50_000

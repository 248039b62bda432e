"""SP-ASPP's Table 1 over several seeds, beside the published figures."""

import json
import os
import signal
import subprocess
import sys
import time
from statistics import mean, stdev

import pytest

from privet.errors import OptionError
from privet.jobs.stages import read_run
from privet.jobs.tiers import size
from privet.models import FullyConnected
from privet.reproduce import attribute_rows
from privet.reproduce.attribute_plans import NOMINAL, SCALES, rows_at
from privet.reproduce.table1 import PUBLISHED, reproduce_table1, summed_up
from reproduce.small_table1 import NETWORKS, in_this_size, weights

PATIENCE = 120.0  # seconds to wait for a stage before the test gives up
KILLED = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from reproduce.small_table1 import in_this_size
from privet.cli import main
in_this_size(setattr)
main()
"""


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """Two seeds: their folder, and the document."""
    out = tmp_path_factory.mktemp("reproduced") / "out"
    with pytest.MonkeyPatch.context() as patch:
        in_this_size(patch.setattr)
        return out, reproduce_table1("att", out=out, scale="small", seeds=[0, 3])


def test_the_document_keeps_the_contract(reproduced):
    out, document = reproduced
    assert json.loads((out / "table1.json").read_text()) == json.loads(json.dumps(document))
    assert (document["dataset"], document["scale"]) == ("att", "small")
    assert (document["seeds"], document["kind"]) == ([0, 3], "attribute")
    assert document["settings"]["units"] == (16, 8)
    assert "privet" in document["versions"]
    assert {each.name for each in out.iterdir()} == {"table1.json", "seed-0", "seed-3"}
    for row in document["rows"]:
        assert isinstance(row["method"], str)
        for key in ("accuracy", "attack_accuracy"):
            assert 0 <= row[key] <= 1
            assert row[f"{key}_sd"] >= 0
        assert list(row["attack_accuracy_by_budget"]) == ["1.5", "3"]
        assert row["parameters"] > row["macs"]
        assert row["speedup"] >= 1
        assert row["paper"] is None or row["paper"].keys() == {
            "accuracy",
            "parameters",
            "attack_accuracy",
        }


def test_figures_are_means_over_the_seeds(reproduced):
    out, document = reproduced
    results = [read_run(out / f"seed-{seed}", "table1").result for seed in (0, 3)]
    for number, row in enumerate(document["rows"]):
        both = [result["rows"][number] for result in results]
        assert row["accuracy"] == pytest.approx(mean(each["accuracy"] for each in both))
        assert row["accuracy_sd"] == pytest.approx(stdev(each["accuracy"] for each in both))
        attacked = [each["attackers"]["nn-sgd"]["accuracy"] for each in both]
        for key, value in row["attack_accuracy_by_budget"].items():
            assert value == pytest.approx(mean(each[key] for each in attacked))
        means = [mean(each.values()) for each in attacked]
        assert row["attack_accuracy"] == pytest.approx(mean(means))
        assert row["attack_accuracy_sd"] == pytest.approx(stdev(means))
        assert row["cost_by_budget"] == [each["cost_by_budget"] for each in both]


def test_a_finished_reproduction_is_not_done_again(reproduced, monkeypatch):
    out, document = reproduced
    in_this_size(monkeypatch.setattr)

    def untimely(*arguments, **options):
        raise AssertionError("a finished seed was made again")

    monkeypatch.setattr(attribute_rows, "_made", untimely)
    again = reproduce_table1("att", out=out, scale="small", seeds=[0, 3])
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(document))
    assert reproduce_table1("att", out=out, scale="small", seeds=[3])["seeds"] == [3]
    reproduce_table1("att", out=out, scale="small", seeds=[0, 3])


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_no_seed_and_the_same_twice_are_refused(seeds, tmp_path):
    with pytest.raises(OptionError, match="at least one"):
        reproduce_table1("synthetic-ratings", out=tmp_path / "out", scale="small", seeds=seeds)
    assert list(tmp_path.iterdir()) == []


def by_hand(accuracy, attack, auc=None):
    """One seed's document of two rows, with the figures at budgets 1 and 2."""
    attackers = {
        name: {"accuracy": dict(zip("12", each, strict=True)), **({"auc": auc} if auc else {})}
        for name, each in attack.items()
    }
    row = {
        "method": "SP-ASPP",
        "about": "",
        "control": False,
        "nominal_speedup": 50,
        "speedup": 57.2,
        "parameters": 11,
        "macs": 10,
        "attacked": 7,
        "accuracy": accuracy,
        "attackers": attackers,
        "found": accuracy / 2,
        "each_seed": ["found"],
    }
    return {
        "budgets": [1, 2],
        "attacker": "first",
        "attackers": {"first": "the paper's", "second": "another"},
        "unprotected": attackers,
        "rows": [row, {**row, "method": "random noise", "nominal_speedup": None}],
        "notes": ["a note"],
    }


def test_summed_up_by_hand():
    seeds = [
        by_hand(0.5, {"first": (0.2, 0.4), "second": (0.9, 0.1)}),
        by_hand(0.6, {"first": (0.4, 0.8), "second": (0.9, 0.3)}),
        by_hand(0.7, {"first": (0.6, 0.6), "second": (0.9, 0.2)}),
    ]
    document = summed_up(seeds, PUBLISHED["att"])
    row, noise = document["rows"]
    assert row["accuracy"] == pytest.approx(0.6)
    assert row["accuracy_sd"] == pytest.approx(0.1)
    assert row["attack_accuracy"] == pytest.approx(0.5)  # of 0.3, 0.6 and 0.6
    assert row["attack_accuracy_sd"] == pytest.approx(0.03**0.5)
    assert row["attack_accuracy_by_budget"] == pytest.approx({"1": 0.4, "2": 0.6})
    second = row["attackers"]["second"]
    assert second["accuracy"] == pytest.approx(0.55)
    assert second["accuracy_by_budget"] == pytest.approx({"1": 0.9, "2": 0.2})
    assert second["accuracy_each_seed"] == pytest.approx([0.5, 0.6, 0.55])
    assert row["found"] == [0.25, 0.3, 0.35]
    assert row["paper"] == {"accuracy": 0.4586, "parameters": 7.01e6, "attack_accuracy": 0.2863}
    assert noise["paper"] is None
    assert document["unprotected"] == row["attackers"]
    assert (document["budgets"], document["notes"]) == ([1, 2], ["a note"])


def test_a_single_seed_has_no_deviation():
    seed = by_hand(0.5, {"first": (0.2, 0.4)}, auc={"1": 0.7, "2": 0.9})
    (row, _) = summed_up([seed], {})["rows"]
    assert (row["accuracy_sd"], row["attack_accuracy_sd"]) == (None, None)
    first = row["attackers"]["first"]
    assert (first["auc"], first["auc_sd"]) == (pytest.approx(0.8), None)
    assert first["auc_by_budget"] == {"1": 0.7, "2": 0.9}
    assert row["paper"] is None


def test_published_figures_stand_beside_models_of_their_size():
    assert NOMINAL == {699: 50, 299: 100, 200: 150, 99: 200}
    published = PUBLISHED["att"]
    assert set(NOMINAL.values()) == set(published) - {1}
    for units, nominal in {40_000: 1, **NOMINAL}.items():
        made = size(FullyConnected(10_000, (units,), 25))["parameters"]
        # The paper rounds to 10,000 parameters.
        assert made == pytest.approx(published[nominal]["parameters"], abs=1.01e4)
    for row in rows_at(SCALES["paper"]):
        named = {40_000: 1, **NOMINAL}.get(row.units or 40_000)
        assert row.nominal_speedup == (None if row.noise else named)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_process_that_was_killed_ends_as_unbroken(reproduced, tmp_path):
    out, tests = tmp_path / "out", os.path.dirname(os.path.dirname(__file__))
    command = [sys.executable, "-c", KILLED, tests, "reproduce", "table1", "--seeds", "1"]
    command += ["--dataset", "att", "--out", str(out), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    file = out / "seed-0" / "stages" / "row-units-16.safetensors"
    deadline = time.monotonic() + PATIENCE
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    printed, err = process.communicate()
    assert (process.returncode, printed) == (-signal.SIGKILL, b""), err.decode()
    assert not (out / "table1.json").exists()
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == json.loads((out / "table1.json").read_text())
    unbroken, resumed = (
        read_run(each / "seed-0", "table1").result for each in (reproduced[0], out)
    )
    assert resumed == unbroken
    for name in NETWORKS:
        assert weights(out / "seed-0", name) == weights(reproduced[0] / "seed-0", name)

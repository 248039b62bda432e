"""The rows of SP-ASPP's Table 1 for attributes: what each is made of, and that runs resume."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from privet.attacks.attribute import ATTRIBUTE_ATTACKERS
from privet.data.table import Table
from privet.errors import DataError, OptionError
from privet.jobs import attribute_training
from privet.jobs.attribute_training import PAPER
from privet.jobs.stages import RunFolder, read_run
from privet.jobs.tiers import size
from privet.models import FullyConnected
from privet.reproduce import attribute_rows
from privet.reproduce.attribute_plans import SCALES, rows_at
from reproduce.small_table1 import (
    BUDGETS,
    CLASSES,
    FEATURES,
    NETWORKS,
    ROWS,
    SCALE,
    USERS,
    ratings,
    rows,
    stages,
    weights,
)


@pytest.fixture(scope="module")
def people():
    return ratings()


@pytest.fixture(scope="module")
def whole(people, tmp_path_factory):
    """A seed that nothing broke: its folder, and its rows as JSON gives them back."""
    folder = tmp_path_factory.mktemp("table1") / "seed-0"
    rows(people, folder)
    return folder, read_run(folder, "table1").result


@pytest.fixture(scope="module")
def made(whole):
    """The rows of `whole` by their names."""
    return dict(zip(ROWS, whole[1]["rows"], strict=True))


def test_every_row_has_its_figures(whole, made):
    document = whole[1]
    assert document["budgets"] == list(BUDGETS)
    assert document["attacker"] == "nn-sgd"
    for name, row in made.items():
        wide = row["parameters"] > size(FullyConnected(FEATURES, (20,), CLASSES))["parameters"]
        assert row["attacked"] == (25 if wide else USERS // 4), name
        adaptive = ["distilled", "adversarial"] if name == "units-8" else []
        assert list(row["attackers"]) == ["nn-sgd", "majority", *adaptive]
        figures = [row["accuracy"]]
        for attacker in row["attackers"].values():
            assert list(attacker["accuracy"]) == ["1.5", "3"]
            figures += attacker["accuracy"].values()
        assert all(0 <= figure <= 1 for figure in figures), name
        assert 0 < row["cost_by_budget"]["1.5"] <= row["cost_by_budget"]["3"] + 1e-9
        assert all(cost <= float(key) + 1e-9 for key, cost in row["cost_by_budget"].items())
        # Who never looks at a record is as right about a protected one.
        users = "25" if wide else "all"
        expected = {"25": made["D"], "all": made["units-16"]}[users]["attackers"]["majority"]
        assert row["attackers"]["majority"] == expected


def test_every_attacker_who_appears_is_described(whole, made):
    document = whole[1]
    seen = {name for row in made.values() for name in row["attackers"]}
    assert document["attackers"].keys() == seen
    assert document["unprotected"].keys() == seen - {"adversarial"}
    assert "16 hidden units" in document["attackers"]["nn-sgd"]
    assert "8 hidden units" in document["attackers"]["distilled"]
    assert "hidden" not in document["attackers"]["majority"]


def test_unprotected_records_are_equal_at_every_budget(whole, people, made):
    unprotected = whole[1]["unprotected"]
    for figures in unprotected.values():
        assert len(set(figures["accuracy"].values())) == 1
    common = np.bincount(people.labels).argmax()
    found = (people.test.labels == common).mean()
    assert unprotected["majority"]["accuracy"]["3"] == pytest.approx(found)


def test_speed_ups_are_ratios_of_macs(made):
    for row, units in zip(made.values(), (32, 16, 8, 32, 8, 8, 8, 8, 8), strict=True):
        assert row["macs"] == (FEATURES + CLASSES) * units
        assert row["parameters"] == row["macs"] + units + CLASSES
        assert row["speedup"] == 32 / units


def test_rows_that_share_a_network_share_its_stage(whole, made):
    found = stages(whole[0])
    assert found.keys() == {*NETWORKS, *(f"row-{name}" for name in ROWS), "unprotected"}
    for name, units in NETWORKS.items():
        assert found[name]["architecture"]["hidden"] == [units]
    assert [found[name]["training"]["epochs"] for name in NETWORKS] == [3, 1, 2, 2, 4, 2]
    for one, *others in (
        ("units-8", "printed-search", "random-noise"),
        ("published", "overtrained"),
    ):
        assert {made[each]["accuracy"] for each in others} == {made[one]["accuracy"]}


def test_each_network_is_trained_once(people, tmp_path, monkeypatch):
    fit, done = attribute_training.fit, []

    def counted(setup, seed, **options):
        done.append(seed)
        return fit(setup, seed, **options)

    monkeypatch.setattr(attribute_training, "fit", counted)
    light = replace(SCALE, attackers=("nn-sgd",), hardened=(), settings=SCALE.settings)
    first = rows(people, tmp_path / "run", scale=light)
    assert len(set(done)) == len(done) == len(NETWORKS)
    assert rows(people, tmp_path / "run", scale=light) == json.loads(json.dumps(first))
    assert len(done) == len(NETWORKS)


def differences(one, other):
    """Name what the settings that networks and searches of two rows use differ in."""
    found = {
        f"{part}.{name}"
        for part, left, right in (
            ("row", vars(one), vars(other)),
            ("settings", vars(one.settings), vars(other.settings)),
        )
        for name in left
        if left[name] != right[name]
    }
    # D's recipe counts for rows with a D of their own; words and names say nothing.
    own = {"settings.base"} if one.units is not None else set()
    said = {f"row.{name}" for name in ("name", "method", "about", "control", "settings")}
    return found - own - said - {"row.adaptive"}


@pytest.mark.parametrize("scale", [SCALE, *SCALES.values()], ids=["tiny", *SCALES])
def test_controls_differ_from_what_they_explain_in_one_thing(scale):
    by_name = {row.name: row for row in rows_at(scale)}
    at = by_name[f"units-{scale.controls_at}"]
    search = {"settings.search", "settings.rare"}
    assert differences(by_name["random-units"], at) == {"settings.importance"}
    assert differences(by_name["printed-search"], at) == search
    assert differences(by_name["overtrained"], at) == {"settings.tier"}
    assert differences(by_name["published"], by_name["overtrained"]) == search
    assert differences(by_name["random-noise"], at) == {"row.noise"}
    assert differences(by_name["D-published"], by_name["D"]) - search == {
        "settings.base",
        "settings.tier",  # which no row without a tier uses
    }
    published = by_name["published"].settings
    assert published.tier == replace(PAPER, epochs=scale.paper_epochs[1])
    assert (published.search.max_steps, published.search.mechanism) == (100, "targets")
    assert (published.importance, published.rare) == ("l1", 0)
    assert [row.control for row in by_name.values()] == [False] * (1 + len(scale.units)) + [
        True
    ] * 6
    assert [row.name for row in by_name.values() if row.adaptive] == [at.name]


def test_the_controls_really_differ(whole, made):
    folder = whole[0]
    files = {name: weights(folder, name) for name in NETWORKS}
    assert len(set(files.values())) == len(files)
    # Random noise costs what the tier's own changes cost, and deceives less.
    assert made["random-noise"]["cost_by_budget"] == made["units-8"]["cost_by_budget"]
    tier, noise = (made[name]["attackers"]["nn-sgd"] for name in ("units-8", "random-noise"))
    for budget, unprotected in whole[1]["unprotected"]["nn-sgd"]["accuracy"].items():
        assert tier["accuracy"][budget] < noise["accuracy"][budget] - 0.05
        assert noise["accuracy"][budget] < unprotected
    # The same network, but a search without end that may touch rare features.
    assert made["printed-search"]["cost_by_budget"] != made["units-8"]["cost_by_budget"]


@pytest.mark.parametrize("stage", ["tier-8", "row-units-8", "row-published", "unprotected"])
def test_a_killed_run_ends_in_the_same_document(stage, whole, people, tmp_path, monkeypatch):
    keep = RunFolder.keep

    def killed(self, name, record, tensors):
        if name == stage:
            raise MemoryError("killed")
        keep(self, name, record, tensors)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "keep", killed)
        with pytest.raises(MemoryError):
            rows(people, folder)
    before = {name: (folder / "stages" / f"{name}.safetensors").stat() for name in stages(folder)}
    assert stage not in before
    assert before
    resumed = rows(people, folder)
    assert json.loads(json.dumps(resumed)) == whole[1]
    for name in NETWORKS:
        assert weights(folder, name) == weights(whole[0], name)
    for name, stat in before.items():
        after = (folder / "stages" / f"{name}.safetensors").stat()
        assert after.st_mtime_ns == stat.st_mtime_ns, f"{name} made twice"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"scale": replace(SCALE, few=26)}, "few = 25, not 26"),
        ({"scale": replace(SCALE, settings=replace(SCALE.settings, rare=0.5))}, "settings"),
        ({"seed": 1}, "seed = 0, not 1"),
        ({"table": ratings(4)}, "data"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(change, word, whole, people):
    before = (whole[0] / "run.json").read_bytes()
    options = {"table": people, "scale": SCALE, "seed": 0, **change}
    with pytest.raises(OptionError, match=word):
        rows(options["table"], whole[0], scale=options["scale"], seed=options["seed"])
    assert (whole[0] / "run.json").read_bytes() == before


def test_test_users_only_judge(whole, made, people, tmp_path):
    order = np.random.default_rng(0).permutation(len(people.test))
    other = replace(people.test, labels=people.test.labels[order])
    document = rows(replace(people, test=other), tmp_path / "run")
    for name in NETWORKS:
        assert weights(tmp_path / "run", name) == weights(whole[0], name)
        assert stages(tmp_path / "run")[name] == stages(whole[0])[name]
    for row, again in zip(made.values(), document["rows"], strict=True):
        assert {key for key in row if again[key] != row[key]} <= {"accuracy", "attackers"}
        if not row["control"]:  # those may guess as chance does
            assert again["accuracy"] != row["accuracy"]
            assert again["attackers"]["nn-sgd"] != row["attackers"]["nn-sgd"]


@dataclass(frozen=True)
class Spy:
    """Guesses nothing, and remembers which users it met, by their first rating."""

    paper: str = "nowhere"
    needs_protection: ClassVar[bool] = False
    learned: ClassVar[list[set[float]]] = []
    asked: ClassVar[list[set[float]]] = []

    def fit(self, known, *, seed):
        self.learned.append(set(known.records[:, 0].tolist()))

        def guess(records):
            self.asked.append(set(records[:, 0].tolist()))
            return np.zeros(records.shape[0], dtype=np.int64)

        return guess


@pytest.mark.parametrize("own_test", [False, True])
def test_attackers_never_learn_from_test_users(own_test, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    inputs = (rng.random((240, 12)) < 0.3).astype(np.float32)
    inputs[:, 0] = np.arange(1, 241) / 256  # tells users apart, and no release changes it
    table = Table(inputs, rng.integers(0, 3, 240), classes=3, name="marked")
    if own_test:
        table = replace(table.take(np.arange(200)), test=table.take(np.arange(200, 240)))
    monkeypatch.setattr(
        attribute_rows, "ATTRIBUTE_ATTACKERS", {**ATTRIBUTE_ATTACKERS, "nn-sgd": Spy()}
    )
    Spy.learned.clear()
    Spy.asked.clear()
    rows(table, tmp_path / "run", scale=replace(SCALE, attackers=("nn-sgd",), hardened=()))
    unprotected = Spy.asked[-1]
    assert len(unprotected) == (40 if own_test else 24)
    (learned,) = Spy.learned
    assert not learned & unprotected
    assert len(learned) == (200 if own_test else 216)


def test_the_papers_names_for_speed_ups_go_by_units(people, tmp_path):
    scale = replace(SCALE, hidden=300, units=(299, 99), wide=0, few=1, controls_at=99)
    light = replace(scale, attackers=("majority",), hardened=(), adaptive_users=12)
    found = rows(people, tmp_path / "run", scale=light)["rows"]
    # Random noise is no model that the paper has.
    assert [row["nominal_speedup"] for row in found] == [1, 100, 200, 1, 200, 200, 200, 200, None]


@pytest.mark.parametrize("problem", ["images", "beyond", "few"])
def test_data_that_cannot_be_protected_leaves_no_folder(problem, people, tmp_path):
    labels = np.arange(40) % 2
    table = {
        "images": lambda: Table(np.zeros((40, 3, 8, 8), "f4"), labels, classes=2, name="odd"),
        "beyond": lambda: Table(np.full((40, 5), 2, "f4"), labels, classes=2, name="odd"),
        "few": lambda: Table(np.zeros((4, 5), "f4"), labels[:4], classes=2, name="odd"),
    }[problem]()
    with pytest.raises(DataError, match="odd"):
        rows(table, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []

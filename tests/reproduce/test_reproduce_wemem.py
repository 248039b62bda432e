"""WeMem's comparison from made-up runs and audits: what is summed up, and what is done again."""

import json
import math
import statistics

import pytest

from privet.errors import DataError, OptionError
from privet.files import write_json
from privet.jobs.audit import Settings
from privet.jobs.stages import versions
from privet.metrics import clopper_pearson
from privet.reproduce import wemem
from privet.reproduce.rows import choose_rows
from privet.reproduce.wemem import Scale

TEST_ACCURACY = {0: 0.5, 1: 0.7, 2: 0.9}
BALANCED = {0: 0.5, 1: 0.6, 2: 0.55}
TPR = {0: 0.02, 1: 0.04, 2: 0.09}
STRONGER = {"hconf": 0.1, "rmia": 0.05}
MEMBERS = 100


class Seen(list):
    """The audits that were made, and in ``pruned`` what was asked to be pruned."""

    def __init__(self):
        super().__init__()
        self.pruned = []


@pytest.fixture
def audited(monkeypatch):
    """Replace pruning and auditing by figures that follow from the seed; return what was audited.

    ``lira`` only ranks, ``conf`` decides too.
    """
    done = Seen()

    def prune(source, settings, *, out):
        done.pruned.append((source, settings))
        return {
            "test_accuracy": TEST_ACCURACY[source.seed],
            "train_accuracy": 1.0,
            "seconds": 1.0 + source.seed,
            "guarantee": {"epsilon": 3.0} if settings.defense == "dp" else None,
        }

    def audit(folder, settings):
        done.append((folder.name, settings))
        document = {
            "adaptive": settings.adaptive,
            "online": settings.online,
            "shadows": settings.shadows,
            "seed": settings.seed,
            "versions": versions(),
            "skipped": {},
            "seconds": 2.0,
            "findings": [finding(name, settings.seed) for name in settings.chosen],
        }
        write_json(folder / "audit.json", document)
        return document

    monkeypatch.setattr(wemem, "prune_source", prune)
    monkeypatch.setattr(wemem, "audit_run", audit)
    return done


def finding(attack, seed):
    rate = {"tpr": TPR[seed], "low": 0.0, "high": 1.0, "resolved": True}
    return {
        "attack": attack,
        "balanced_accuracy": None if attack == "lira" else BALANCED[seed],
        "auc": 0.6 + seed / 10 + STRONGER.get(attack, 0),
        "tpr_at_fpr": {"0.01": rate, "0.001": {**rate, "resolved": seed == 0}},
        "members": MEMBERS,
        "nonmembers": 100,
        "seconds": 0.5,
    }


def reproduced(out, *, attacks=("conf", "lira"), rows=("none",), seeds=(0, 1, 2), **rest):
    return wemem.reproduce_wemem(
        rest.pop("dataset", "digits"),
        out=out,
        rows=choose_rows(rows),
        seeds=seeds,
        sparsities=rest.pop("sparsities", (0.6,)),
        scale=rest.pop("scale", None),
        settings=Settings(attacks, **rest),
    )


def test_means_and_deviations_over_the_seeds(audited, tmp_path):
    (row,) = reproduced(tmp_path)["rows"]
    assert row["test_accuracy"] == pytest.approx(0.7)
    assert row["test_accuracy_sd"] == pytest.approx(0.2)
    assert row["seconds"] == pytest.approx(2.0)
    conf = row["attacks"]["conf"]
    assert conf["balanced_accuracy"] == pytest.approx(0.55)
    assert conf["balanced_accuracy_sd"] == pytest.approx(0.05)
    assert conf["auc"] == pytest.approx(0.7)
    assert conf["tpr_at_fpr"]["0.01"]["tpr"] == pytest.approx(0.05)


def test_advantage_is_the_mean_over_the_attacks_that_decide(audited, tmp_path):
    (row,) = reproduced(tmp_path)["rows"]
    assert row["attacks"]["lira"]["balanced_accuracy"] is None
    advantages = [2 * value - 1 for value in BALANCED.values()]
    assert row["mean_advantage"] == pytest.approx(statistics.mean(advantages))
    assert row["mean_advantage_sd"] == pytest.approx(statistics.stdev(advantages))


def test_the_interval_counts_the_members_of_all_seeds(audited, tmp_path):
    (row,) = reproduced(tmp_path)["rows"]
    rates = row["attacks"]["conf"]["tpr_at_fpr"]
    assert (rates["0.01"]["low"], rates["0.01"]["high"]) == clopper_pearson(15, 300)
    assert rates["0.01"]["resolved"] is True
    assert rates["0.001"]["resolved"] is False  # in one seed only


def test_one_seed_has_no_deviation(audited, tmp_path):
    document = reproduced(tmp_path, seeds=(2,))
    (row,) = document["rows"]
    assert document["seeds"] == [2]
    assert row["test_accuracy"] == 0.9
    assert row["test_accuracy_sd"] is None
    assert row["attacks"]["conf"]["auc_sd"] is None


def test_the_seed_of_a_run_is_the_seed_of_its_audit(audited, tmp_path):
    reproduced(tmp_path, shadows=7, jobs=3, seed=99)
    assert [name for name, _ in audited] == [f"none-0.6-seed-{seed}" for seed in (0, 1, 2)]
    assert [each.seed for _, each in audited] == [0, 1, 2]
    assert {(each.shadows, each.jobs) for _, each in audited} == {(7, 3)}


def test_the_document_is_kept(audited, tmp_path):
    document = reproduced(tmp_path)
    assert json.loads((tmp_path / "wemem.json").read_text()) == document


def test_finished_audits_are_not_made_again(audited, tmp_path):
    first = reproduced(tmp_path)
    assert reproduced(tmp_path, attacks=("lira", "conf")) == first
    assert len(audited) == 3


@pytest.mark.parametrize(
    "other",
    [
        {"shadows": 6},
        {"attacks": ("conf",)},
        {"attacks": "all"},
        {"online": False, "attacks": ("conf",)},
    ],
)
def test_audits_of_other_settings_are_made_again(other, audited, tmp_path):
    reproduced(tmp_path)
    again = reproduced(tmp_path, **other)
    assert len(audited) == 6
    if "shadows" in other:
        assert again["shadows"] == 6


def test_an_audit_of_other_versions_is_made_again(audited, tmp_path):
    reproduced(tmp_path)
    file = tmp_path / "none-0.6-seed-1" / "audit.json"
    write_json(file, {**json.loads(file.read_text()), "versions": {"privet": "0.0"}})
    reproduced(tmp_path)
    assert [name for name, _ in audited[3:]] == ["none-0.6-seed-1"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"findings": 3}', "{"])
def test_a_damaged_audit_is_named(text, audited, tmp_path):
    reproduced(tmp_path)
    (tmp_path / "none-0.6-seed-1" / "audit.json").write_text(text)
    with pytest.raises(DataError, match=r"audit\.json"):
        reproduced(tmp_path)


@pytest.mark.parametrize("text", ['{"findings": []}', '{"findings": [{}], "skipped": {}}'])
def test_an_audit_that_lacks_parts_is_named(text, audited, tmp_path):
    reproduced(tmp_path)
    (tmp_path / "none-0.6-seed-1" / "audit.json").write_text(text)
    with pytest.raises(DataError, match=r"audit\.json"):
        reproduced(tmp_path)


def test_attacks_that_only_rank_have_no_advantage(audited, tmp_path):
    (row,) = reproduced(tmp_path, attacks=("lira",))["rows"]
    assert row["mean_advantage"] is None or math.isfinite(row["mean_advantage"])


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"rows": ("none", "hope")}, "hope"),
        ({"seeds": ()}, "seed"),
        ({"rows": ()}, "row"),
        ({"sparsities": ()}, "sparsity"),
        ({"sparsities": (0.5, 1.5)}, "1.5"),
    ],
)
def test_wrong_options_are_refused_before_any_work(other, word, audited, tmp_path):
    with pytest.raises(OptionError, match=word):
        reproduced(tmp_path / "new", **other)
    assert audited == []
    assert not (tmp_path / "new").exists()


def test_published_figures_stand_beside_the_papers_dataset_only(audited, tmp_path):
    location = reproduced(tmp_path / "location", dataset="location", rows=("base", "rmr"))
    assert location["rows"][0]["published"]["test_accuracy"] == 0.641
    assert location["rows"][1]["published"] is None
    assert reproduced(tmp_path / "digits")["rows"][0]["published"] is None


def test_published_figures_stand_beside_their_own_sparsity_only(audited, tmp_path):
    (row,) = reproduced(tmp_path, dataset="location", rows=("base",), sparsities=(0.5,))["rows"]
    assert row["published"] is None


@pytest.mark.parametrize(
    "twice", [{"rows": ("none", "none")}, {"rows": ("few", "none")}, {"seeds": (1, 1)}]
)
def test_nothing_counts_twice(twice, audited, tmp_path):
    with pytest.raises(OptionError, match="once"):
        reproduced(tmp_path, **twice)
    assert not any(tmp_path.iterdir())


def test_pooled_attacks_stand_apart_from_calibrated_ones(audited, tmp_path):
    attacks = ("conf", "entr", "mentr", "hconf", "loss", "lira", "rmia")
    (row,) = reproduced(tmp_path, attacks=attacks)["rows"]
    # Of the paper's attacks those without learning were run; loss is neither theirs nor calibrated.
    assert row["pooled_balanced_accuracy"] is None
    assert row["threshold_balanced_accuracy"] == pytest.approx(statistics.mean(BALANCED.values()))
    assert row["strongest_pooled"]["attack"] == "hconf"
    assert row["strongest_pooled"]["auc"] == pytest.approx(0.8)
    assert row["strongest_pooled"]["auc_sd"] == pytest.approx(0.1)
    assert row["strongest_calibrated"]["attack"] == "rmia"
    assert row["strongest_calibrated"]["auc"] == pytest.approx(0.75)


def test_without_such_attacks_there_is_no_strongest_one(audited, tmp_path):
    (row,) = reproduced(tmp_path, attacks=("loss",))["rows"]
    assert row["strongest_pooled"] is None
    assert row["strongest_calibrated"] is None
    assert row["pooled_balanced_accuracy"] is None


def test_rows_come_by_sparsity_and_those_of_their_own_once(audited, tmp_path):
    names = ("base", "sparsity-0", "rmr-shuffled")
    document = reproduced(tmp_path, rows=names, seeds=(0,), sparsities=(0.5, 0.7))
    found = [(row["defense"], row["sparsity"]) for row in document["rows"]]
    assert found == [
        ("base", 0.5),
        ("sparsity-0", 0.0),
        ("rmr-shuffled", 0.5),
        ("base", 0.7),
        ("rmr-shuffled", 0.7),
    ]
    assert [row["control"] for row in document["rows"][:3]] == [False, True, True]
    assert document["sparsity"] == [0.5, 0.7]
    assert [settings.sparsity for _, settings in audited.pruned] == [s for _, s in found]
    assert len({name for name, _ in audited}) == 5


def test_the_first_seed_goes_all_the_way_before_the_next_begins(audited, tmp_path):
    reproduced(tmp_path, rows=("none", "base"), seeds=(2, 0))
    assert [source.seed for source, _ in audited.pruned] == [2, 2, 0, 0]


def test_a_scale_reaches_source_and_settings(audited, tmp_path):
    scale = Scale(samples=99, model="resnet18", width=4, changes={"epochs": 3, "score_epochs": 2})
    document = reproduced(tmp_path, rows=("base",), seeds=(1,), scale=scale)
    ((source, settings),) = audited.pruned
    assert (source.samples, source.model, source.width) == (99, "resnet18", 4)
    assert (settings.epochs, settings.score_epochs) == (3, 2)
    assert document["scale"]["samples"] == 99
    assert document["rows"][0]["settings"]["epochs"] == 3


def test_large_data_sets_have_a_scale_of_their_own(audited, tmp_path):
    reproduced(tmp_path, dataset="cifar10-images", rows=("base",), seeds=(1,))
    ((source, settings),) = audited.pruned
    usual = wemem.SCALES["cifar10-images"]
    assert (source.samples, source.width) == (usual.samples, usual.width)
    assert settings.epochs == usual.changes["epochs"]


def test_what_a_defense_proves_stands_in_its_row(audited, tmp_path):
    none, dp = reproduced(tmp_path, rows=("none", "dp"), seeds=(0,))["rows"]
    assert none["guarantee"] is None
    assert dp["guarantee"] == {"epsilon": 3.0}

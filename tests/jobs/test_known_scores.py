"""Memorization scores out of an audit: one pass of shadow training serves both."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from privet.data.splits import draw_members, shadow_pool
from privet.defenses import choose
from privet.errors import DataError, OptionError
from privet.jobs.audit import Settings
from privet.jobs.audit_run import audit_run
from privet.jobs.cases import Source, open_case
from privet.jobs.known_scores import FILE, keep_scores, known_scores, spread
from privet.jobs.prune import prune_source
from privet.jobs.prune_network import prune_network
from privet.jobs.settings import recommended

SHADOWS = 16  # enough for every sample to have some on both sides
QUICK = {"rounds": 2, "epochs": 2, "dense_epochs": 15, "patience": None, "batch_size": 16}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two clear classes, some of whose samples are mislabelled by canaries."""
    file = tmp_path_factory.mktemp("known") / "people.npz"
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    inputs = rng.normal(0, 0.5, (300, 20)).astype("f4")
    inputs[:, 0] += 4 * labels - 2
    np.savez(file, X=inputs, y=labels)
    return Source(str(file), canaries=12, seed=4)


@pytest.fixture(scope="module")
def audited(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited") / "run"
    prune_source(source, recommended("base", **QUICK), out=folder)
    audit_run(folder, Settings(("conf",), shadows=SHADOWS, seed=1))
    return folder


def test_mislabelled_samples_score_highest(audited, source):
    case = open_case(source)
    scores = known_scores(audited, case)
    train = case.made.split.train
    assert scores.shape == train.shape
    assert (scores.min(), scores.max()) == (0, 1)
    # The planted canaries come first among the training rows.
    assert scores[: case.made.planted].mean() > scores[case.made.planted :].mean() + 0.2


def test_scores_are_the_two_means_of_the_shadow_models(audited, source):
    """The difference of mean confidences of models that did and did not train on the sample."""
    case = open_case(source)
    split, table = case.made.split, case.made.table
    audit_rows = np.concatenate([split.train, case.made.held_out, split.test])
    count = len(audit_rows) + len(split.attacker)
    pool = shadow_pool(
        count, 1, 0.8, audited=len(audit_rows), drawn=min(len(split.train), count // 2)
    )
    inside, confidence = [], []
    for number in range(SHADOWS):
        with np.load(audited / "shadows" / "online-seed-1" / f"{number:04d}.npz") as held:
            logits = held["logits"][: len(audit_rows)].astype(float)
        members = pool.pool[draw_members(pool, 1, number)]
        inside.append(np.isin(np.arange(len(audit_rows)), members))
        powers = np.exp(logits - logits.max(1, keepdims=True))
        right = powers[np.arange(len(logits)), table.labels[audit_rows]]
        confidence.append(right / powers.sum(1))
    inside, confidence = np.array(inside), np.array(confidence)
    rows = range(len(split.train))
    raw = np.array(
        [confidence[inside[:, i], i].mean() - confidence[~inside[:, i], i].mean() for i in rows]
    )
    expected = (raw - raw.min()) / (raw.max() - raw.min())
    np.testing.assert_allclose(known_scores(audited, case), expected, atol=1e-5)


def test_a_run_takes_them_up_and_trains_no_model_for_them(audited, source, tmp_path):
    settings = recommended("rmr", **QUICK)
    result = prune_source(source, settings, out=tmp_path / "run", scores=audited)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert not any(name.startswith("score-model") for name in record["stages"])
    assert record["settings"]["scores_of"] == str(audited)
    assert result["scores"] == spread(known_scores(audited, open_case(source)), choose("rmr", {}))
    assert prune_source(source, settings, out=tmp_path / "run", scores=audited) == result
    # Other scores make another run.
    with pytest.raises(OptionError, match="scores_of"):
        prune_source(source, settings, out=tmp_path / "run")


@pytest.mark.parametrize(("scores", "again"), [("folds", "subsampled"), ("shuffled", "shuffled")])
def test_shadow_models_keep_the_control_of_the_target(
    scores, again, audited, source, tmp_path, monkeypatch
):
    settings = recommended("rmr", **QUICK, scores=scores, score_epochs=1)
    prune_source(source, settings, out=tmp_path / "run", scores=audited)
    seen = []

    def spy(*about, settings, **more):
        seen.append((settings.scores, settings.score_models))
        return prune_network(*about, settings=settings, **more)

    monkeypatch.setattr("privet.jobs.audit_run.prune_network", spy)
    audit_run(tmp_path / "run", Settings(("conf",), shadows=1))
    assert seen == [(again, 10)]


def test_scores_that_changed_since_a_run_began_are_noticed(audited, source, tmp_path):
    copy = shutil.copytree(audited, tmp_path / "audited")
    settings = recommended("rmr", **QUICK)
    prune_source(source, settings, out=tmp_path / "run", scores=copy)
    with np.load(copy / FILE) as held:
        keep_scores(copy, held["rows"], held["scores"][::-1])
    with pytest.raises(OptionError, match="scores_digest"):
        prune_source(source, settings, out=tmp_path / "run", scores=copy)


@pytest.mark.parametrize("change", [{"seed": 5}, {"canaries": 0}, {"samples": 200}])
def test_scores_of_another_split_are_refused(change, audited, source):
    with pytest.raises(DataError, match="audit a run on the same data and seed"):
        known_scores(audited, open_case(replace(source, **change)))


def test_a_run_that_was_not_audited_is_named(audited, source, tmp_path):
    copy = shutil.copytree(audited, tmp_path / "run")
    (copy / FILE).unlink()
    with pytest.raises(DataError, match="privet audit"):
        known_scores(copy, open_case(source))
    with pytest.raises(DataError, match="privet audit"):
        known_scores(tmp_path / "nowhere", open_case(source))


def test_rows_without_a_score_are_counted(audited, source, tmp_path):
    copy, case = shutil.copytree(audited, tmp_path / "run"), open_case(source)
    rows = case.made.split.train
    estimated = np.linspace(-1, 1, len(rows))
    estimated[3:5] = np.nan
    keep_scores(copy, rows, estimated)
    with pytest.raises(DataError, match="no score for 2 training rows"):
        known_scores(copy, case)
    keep_scores(copy, rows[7:], estimated[7:])
    with pytest.raises(DataError, match="no score for 7 training rows"):
        known_scores(copy, case)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04"])
def test_a_damaged_file_of_scores_is_named(damage, audited, source, tmp_path):
    copy = shutil.copytree(audited, tmp_path / "run")
    (copy / FILE).write_bytes(damage)
    with pytest.raises(DataError, match=FILE):
        known_scores(copy, open_case(source))


def test_scores_come_back_in_the_order_of_the_training_rows(audited, source, tmp_path):
    copy, case = shutil.copytree(audited, tmp_path / "run"), open_case(source)
    rows = case.made.split.train[::-1]
    keep_scores(copy, rows, np.arange(len(rows), dtype=float))
    found = known_scores(copy, case)
    np.testing.assert_allclose(found, np.linspace(1, 0, len(rows)))


def test_a_histogram_of_scores():
    values = np.array([0.0, 0.02, 0.5, 1.0])
    found = spread(values, choose("rsw", {}))
    assert found["threshold"] is None
    assert spread(values, choose("rmr", {}))["threshold"] == 0.6
    quantile = choose("rmr", {"threshold": 0.5, "quantile": True})
    assert spread(values, quantile)["threshold"] == np.quantile(values, 0.5)
    assert sum(found["counts"]) == 4
    assert (found["counts"][0], found["counts"][-1]) == (2, 1)
    assert (found["edges"][0], found["edges"][-1], len(found["edges"])) == (0.0, 1.0, 21)

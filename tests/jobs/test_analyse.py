"""The scenario analysis on data of which the answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from privet.data.registry import load
from privet.data.splits import pruning_split
from privet.errors import DataError, OptionError
from privet.jobs import analyse as analyse_module
from privet.jobs.analyse import analyse, measure
from privet.jobs.cases import Source
from privet.jobs.settings import PruneSettings, recommended
from privet.jobs.stages import Forgetful
from privet.jobs.variants import Repeat, areas, divide, rows_by_round
from privet.models import FullyConnected

FEATURES, CLASSES = 40, 4
QUICK = recommended(
    "base", rounds=2, epochs=2, dense_epochs=3, score_epochs=2, score_models=2, patience=2
)
LONG = recommended(
    "none",
    rounds=2,
    epochs=8,
    dense_epochs=40,
    score_epochs=60,
    batch_size=32,
    learning_rate=5e-3,
)


def build():
    return FullyConnected(FEATURES, (48, 24), CLASSES).build()


def blobs(count, *, wrong=0.0, seed=0, spread=0.8):
    """Return classes that are easy to tell apart, a share ``wrong`` of them with random labels."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    truth = rng.integers(CLASSES, size=count)
    inputs = centers[truth] + spread * rng.normal(size=(count, FEATURES))
    labels = np.where(rng.random(count) < wrong, rng.integers(CLASSES, size=count), truth)
    return torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(labels)


def measured(train, dev, **settings):
    return measure(
        build,
        train,
        dev,
        settings=replace(LONG, **settings),
        seed=3,
        repeats=2,
        stages=Forgetful(),
    )


def repeat(train, **changes):
    options = {
        "build": build,
        "train": train,
        "dev": blobs(40, seed=5),
        "division": divide(len(train[1]), 1),
        "settings": QUICK,
        "seed": 2,
        "stages": Forgetful(),
    }
    return Repeat(**{**options, **changes})


def weights_of(variant, train, **changes):
    one = repeat(train, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unpruned = build()
    return one.prune(variant, unpruned, 2).state_dict()


def differing(one, other):
    return [name for name in one if not torch.equal(one[name], other[name])]


def changed(data, rows):
    """Return the data with other inputs and labels in some rows."""
    inputs, labels = data[0].clone(), data[1].clone()
    inputs[rows] += 3
    labels[rows] = (labels[rows] + 1) % CLASSES
    return inputs, labels


def outcome(result):
    return {key: value for key, value in result.items() if key != "seconds"}


@given(samples=st.integers(80, 900), seed=st.integers(0, 9), rounds=st.integers(2, 6))
def test_rows_play_one_part_each_and_rounds_take_equally_many(samples, seed, rounds):
    division = divide(samples, seed)
    parts = (division.members, division.fresh, division.nonmembers)
    assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts)) >= samples - 1
    assert len(division.members) == len(division.fresh)
    assert abs(len(division.nonmembers) - samples / 4) <= 0.5
    took = {
        name: rows_by_round(name, division, rounds=rounds, seed=seed)
        for name in ("one-shot", "one-shot-long", "iterative", "shuffled", "fresh")
    }
    for turn in (turn for turns in took.values() for turn in turns):
        assert len(np.unique(turn)) == len(division.members)
        assert not np.isin(turn, division.nonmembers).any()
    assert len(took["one-shot"]) == len(took["one-shot-long"]) == 1
    assert {len(took[name]) for name in ("iterative", "shuffled", "fresh")} == {rounds}
    assert not np.isin(took["fresh"], division.members).any()
    assert np.isin(took["iterative"], division.members).all()
    assert not np.array_equal(*(np.sort(turn) for turn in took["shuffled"][:2]))


def test_shuffled_rounds_take_about_half_of_their_rows_from_the_members():
    division = divide(4000, 0)
    turns = rows_by_round("shuffled", division, rounds=4, seed=0)
    assert np.isin(turns, division.members).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("variant", "parts"),
    [
        ("one-shot", ["members"]),
        ("one-shot-long", ["members"]),
        ("iterative", ["members"]),
        ("shuffled", ["members", "fresh"]),
        ("fresh", ["fresh"]),
    ],
)
@pytest.mark.parametrize(
    "pruner", [{}, {"pruner": "structural", "pruner_options": {"importance": "taylor"}}]
)
def test_a_variant_is_pruned_and_trained_by_its_own_rows_alone(variant, parts, pruner):
    train = blobs(160)
    settings = replace(QUICK, **pruner)
    before = weights_of(variant, train, settings=settings)
    for part in ("members", "fresh", "nonmembers"):
        other = changed(train, getattr(divide(160, 1), part))
        after = weights_of(variant, other, settings=settings)
        assert bool(differing(before, after)) is (part in parts), part


def test_the_unpruned_variant_is_the_unpruned_network():
    assert not differing(weights_of("dense", blobs(160)), build_seeded().state_dict())


def build_seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def test_a_long_one_shot_takes_as_many_steps_as_all_rounds(monkeypatch):
    plans = []
    from privet.jobs import variants

    def watched(setup, plan, **options):
        plans.append(plan)
        return prune_rounds(setup, plan, **options)

    prune_rounds = variants.prune_rounds
    monkeypatch.setattr(variants, "prune_rounds", watched)
    settings = replace(QUICK, rounds=3)
    for variant in ("one-shot", "one-shot-long", "iterative"):
        weights_of(variant, blobs(160), settings=settings)
    assert [(plan.epochs, len(plan.sparsities)) for plan in plans] == [(2, 1), (6, 1), (2, 3)]
    assert {plan.sparsities[-1] for plan in plans} == {settings.sparsity}
    assert {plan.patience for plan in plans} == {None}


def test_rounds_take_as_long_as_they_usually_take():
    """With early stopping its mean, without it what was asked for."""
    one = repeat(blobs(200), settings=replace(QUICK, epochs=30, patience=1))
    assert 1 <= one.usual_epochs() < 30
    assert (
        repeat(blobs(200), settings=replace(QUICK, epochs=30, patience=None)).usual_epochs() == 30
    )


class Answers(nn.Module):
    """Reads the logits off the inputs."""

    def forward(self, inputs):
        return inputs


def test_hard_samples_are_not_mistaken_for_leaking_ones():
    """Confidence falls with hardness and says nothing about membership: 0.5 in every group."""
    rng = np.random.default_rng(0)
    hardness = rng.random(8000)
    confidence = 6 * (1 - hardness) + 0.1 * rng.normal(size=8000)
    inputs = torch.from_numpy(np.stack([confidence, np.zeros(8000)], axis=1)).float()
    audited = inputs, torch.zeros(8000, dtype=torch.long)
    found = areas(Answers(), audited, 4000, scores=hardness)
    np.testing.assert_allclose(found, 0.5, atol=0.03)


def test_leaking_samples_are_found_in_their_group():
    rng = np.random.default_rng(0)
    scores, members = rng.random(400), np.arange(400) < 240
    margin = rng.normal(size=400) + 9 * (members & (scores > np.quantile(scores, 0.75)))
    inputs = torch.from_numpy(np.stack([margin, np.zeros(400)], axis=1)).float()
    found = areas(Answers(), (inputs, torch.zeros(400).long()), 240, scores=scores)
    every, lowest, highest = found[0]
    assert highest > 0.999
    assert lowest == pytest.approx(0.5, abs=0.15)
    assert every == pytest.approx(0.5 + 0.25 / 2, abs=0.08)


def test_a_group_without_nonmembers_is_refused():
    audited = torch.zeros(8, 2), torch.zeros(8).long()
    with pytest.raises(DataError, match="lowest"):
        areas(Answers(), audited, 4, scores=np.array([0, 1, 8, 9, 2, 3, 4, 5.0]))


@pytest.mark.slow
def test_wrong_labels_are_memorable_and_clean_data_is_not():
    """The network knows its data by heart before it is pruned: rounds add nothing to that."""
    noisy, clean = (
        measured(blobs(720, wrong=wrong, seed=1, spread=spread), blobs(60, seed=7))
        for wrong, spread in ((0.3, 1.0), (0.0, 0.3))
    )
    assert (noisy["scenario"], noisy["recommendation"]) == ("inherent memorability", "rmr")
    memorability = noisy["effects"][-1]
    assert memorability["factor"] == "memorability"
    assert memorability["mean"] > 0.25
    assert (clean["scenario"], clean["recommendation"]) == ("neither", "base")
    for result in (noisy, clean):
        assert (result["members"], result["nonmembers"]) == (270, 180)
        assert result["epochs"] == LONG.epochs


@pytest.mark.slow
def test_labels_by_coin_toss_leak_by_reuse():
    """They can only be learned by heart, and three epochs before pruning are too few for that."""
    train = blobs(720, wrong=1.0, seed=1)
    found = measured(train, blobs(60, seed=7), dense_epochs=3, rounds=4)
    reuse = {e["against"]: e for e in found["effects"] if e["factor"] == "reuse"}
    assert reuse["one-shot"]["mean"] > 0.05
    assert reuse["fresh"]["mean"] > 0.2
    assert found["recommendation"] in ("rsw", "swmr")


def table(folder, *, poisoned=None):
    """Write a data file; return its name. Poisoned rows have other inputs and labels."""
    data = blobs(500, wrong=0.2)
    if poisoned is not None:
        data = changed(data, poisoned)
    path = folder / "table.npz"
    np.savez(path, X=data[0].numpy(), y=data[1].numpy())
    return str(path)


def analysed(folder, **table_options):
    folder.mkdir(exist_ok=True)
    source = Source(table(folder, **table_options), seed=4)
    return analyse(source, QUICK, out=folder / "run", repeats=2)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return folder, analysed(folder)


def test_neither_test_rows_nor_the_attackers_are_looked_at(plain, tmp_path):
    folder, result = plain
    split = pruning_split(load(str(folder / "table.npz")), 4)
    others = np.concatenate([split.test, split.attacker])
    again = analysed(tmp_path / "others", poisoned=others)
    ours = analysed(tmp_path / "ours", poisoned=split.train[:60])
    expected = {**outcome(result), "dataset": None}
    assert {**outcome(again), "dataset": None} == expected
    assert {**outcome(ours), "dataset": None} != expected


def test_an_interrupted_analysis_ends_as_an_unbroken_one(plain, tmp_path, monkeypatch):
    folder, result = plain
    trained = []
    measured = Repeat._measured

    def stopping(self, model, scores):
        trained.append(model)
        if len(trained) in (2, 5, 9):
            raise KeyboardInterrupt
        return measured(self, model, scores)

    monkeypatch.setattr(Repeat, "_measured", stopping)
    out = tmp_path / "run"
    source = Source(str(folder / "table.npz"), seed=4)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            analyse(source, QUICK, out=out, repeats=2)
    again = analyse(source, QUICK, out=out, repeats=2)
    assert outcome(again) == outcome(result)
    assert len(trained) == 2 * 6 + 3
    for file in (folder / "run" / "stages").iterdir():
        assert file.read_bytes() == (out / "stages" / file.name).read_bytes(), file.name


def test_a_finished_analysis_returns_its_result(plain, monkeypatch):
    folder, result = plain
    monkeypatch.setattr(analyse_module, "measure", None)
    again = analyse(Source(str(folder / "table.npz"), seed=4), QUICK, out=folder / "run", repeats=2)
    assert again == result


@pytest.mark.parametrize(
    ("changes", "repeats", "word"),
    [
        ({"defense": "rsw"}, 2, "rsw"),
        ({"rounds": 1}, 2, "rounds"),
        ({"rewind": 1}, 2, "rewind"),
        ({"dense_epochs": 0}, 2, "dense_epochs"),
        ({"scores": "shuffled"}, 2, "shuffled"),
        ({}, 1, "repeats"),
    ],
)
def test_what_cannot_be_analyzed_is_refused_before_anything_is_written(
    changes, repeats, word, tmp_path
):
    with pytest.raises(OptionError, match=word):
        analyse(Source("digits"), replace(QUICK, **changes), out=tmp_path / "run", repeats=repeats)
    assert not (tmp_path / "run").exists()


def test_too_few_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match="at least 80"):
        analyse(Source("digits", samples=150), PruneSettings(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()

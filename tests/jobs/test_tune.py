"""The search for settings: its pick, its trials, and what it never sees."""

import json
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import privet
from privet.data.registry import load
from privet.defenses import DEFENSES
from privet.errors import DataError, OptionError
from privet.jobs import prune as prune_job
from privet.jobs import search as search_job
from privet.jobs import trials as trials_job
from privet.jobs import tune as tune_job
from privet.jobs.audit import Settings
from privet.jobs.audit_run import _remake, audit_run
from privet.jobs.cases import Source, open_case
from privet.jobs.prune import prune_source
from privet.jobs.search import Search, explore, front, pick
from privet.jobs.settings import PruneSettings, recommended
from privet.jobs.spaces import SPACES, Candidate, first, suggest
from privet.jobs.stages import Forgetful, read_run
from privet.jobs.trials import Bench, Network, Outcome, resplits, strongest
from privet.jobs.tune import picked, tune, tuned_before

QUICK = Search(
    trials=5,
    defenses=("none", "distill", "base"),
    fixed={"epochs": 1, "dense_epochs": 2, "rounds": 2},
)
SOURCE = Source("digits", samples=300, seed=3)


def timeless(document):
    if isinstance(document, dict):
        return {key: timeless(value) for key, value in document.items() if key != "seconds"}
    return [timeless(entry) for entry in document] if isinstance(document, list) else document


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What an unbroken search on digits finds, and its folder."""
    folder = tmp_path_factory.mktemp("tune") / "search"
    return folder, tune(SOURCE, QUICK, out=folder)


def trial(number, accuracy, leakage, state="complete"):
    return {"number": number, "dev_accuracy": accuracy, "leakage": leakage, "state": state}


# The rule of the pick


@pytest.mark.parametrize(
    ("loss", "number"),
    # Most accurate: 0.70. Within 0.01 lies 1, within 0.05 also 2, within 0.5 all.
    [(0.0, 0), (0.01, 1), (0.02, 1), (0.05, 2), (0.5, 3)],
)
def test_the_pick_leaks_least_within_the_accuracy_to_lose(loss, number):
    trials = [trial(0, 0.70, 0.8), trial(1, 0.69, 0.7), trial(2, 0.65, 0.6), trial(3, 0.3, 0.5)]
    trials += [trial(4, 0.9, 0.5, "pruned"), trial(5, None, None, "failed")]
    assert pick(trials, loss=loss)["number"] == number


def test_among_equal_leakage_the_pick_is_the_most_accurate_then_the_first():
    trials = [trial(0, 0.70, 0.6), trial(1, 0.71, 0.6), trial(2, 0.71, 0.6)]
    assert pick(trials, loss=0.1)["number"] == 1


points = st.tuples(st.integers(0, 6), st.integers(5, 10))


@settings(max_examples=60, deadline=None)
@given(st.lists(points, min_size=1, max_size=12), st.integers(0, 3))
def test_front_and_pick_are_what_brute_force_finds(spots, loss):
    trials = [trial(n, a / 10, leak / 10) for n, (a, leak) in enumerate(spots)]
    undominated = {
        n
        for n, (a, leak) in enumerate(spots)
        if not any(o >= a and p <= leak and (o, p) != (a, leak) for o, p in spots)
    }
    assert {one["number"] for one in front(trials)} == undominated
    best = max(a for a, _ in spots)
    least = min(leak for a, leak in spots if a >= best - loss)
    assert pick(trials, loss=loss / 10)["leakage"] == least / 10


# Re-splits


@settings(max_examples=60, deadline=None)
@given(st.integers(9, 300), st.integers(1, 200), st.integers(1, 5), st.integers(0, 9))
def test_resplits_share_no_judged_sample_and_leave_none_out(train, dev, repeats, seed):
    splits = resplits(train, dev, trained=False, repeats=repeats, seed=seed)
    samples = train + dev
    for split in splits:
        everyone = np.concatenate([split.train, split.stop, split.judged])
        assert sorted(everyone) == list(range(samples))
        assert len(split.judged) == samples // 5
        assert len(split.stop) == min(dev, samples // 10)
    judged = np.concatenate([split.judged for split in splits])
    assert len(set(judged)) == len(judged)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(2, 50), st.integers(1, 5))
def test_what_a_trained_network_has_met_stays_its_members(train, dev, repeats):
    splits = resplits(train, dev, trained=True, repeats=repeats, seed=0)
    for split in splits:
        assert list(split.train) == list(range(train))
        assert sorted([*split.stop, *split.judged]) == list(range(train, train + dev))
        assert abs(len(split.stop) - len(split.judged)) <= 1
    if repeats > 1:
        assert not set(splits[0].judged) & set(splits[1].judged)


@pytest.mark.parametrize(("train", "dev", "trained"), [(7, 2, False), (50, 0, False), (9, 1, True)])
def test_too_few_samples_to_divide_are_refused(train, dev, trained):
    with pytest.raises(DataError):
        resplits(train, dev, trained=trained, repeats=1, seed=0)


# Leakage


def test_leakage_is_the_highest_auc_with_members_scoring_higher():
    """The identity network answers with its inputs, so answers can be written down."""
    labels = torch.zeros(4, dtype=torch.long)
    sure, unsure = torch.tensor([[9.0, 0.0]] * 4), torch.tensor([[1.0, 0.0]] * 4)
    assert strongest(nn.Identity(), (sure, labels), (unsure, labels)) == (1.0, "conf")
    assert strongest(nn.Identity(), (unsure, labels), (sure, labels))[0] == 0.5
    assert strongest(nn.Identity(), (sure, labels), (sure, labels))[0] == 0.5
    half_wrong = torch.tensor([[9.0, 0.0], [0.0, 9.0]] * 2)
    assert strongest(nn.Identity(), (sure, labels), (half_wrong, labels))[0] == 0.75


@pytest.fixture(scope="module")
def digits():
    table = load("digits")
    inputs, labels = torch.from_numpy(table.inputs[:240]), torch.from_numpy(table.labels[:240])
    return (inputs[:200], labels[:200]), (inputs[200:], labels[200:])


def build():
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def bench(digits, repeats=1):
    train, dev = digits
    samples = torch.cat([train[0], dev[0]]), torch.cat([train[1], dev[1]])
    splits = resplits(len(train[1]), len(dev[1]), trained=False, repeats=repeats, seed=0)
    return Bench(Network(build, build, trained=False), samples, splits, 0)


def test_hiding_answers_earns_nothing(digits, monkeypatch):
    pruned, prune = [], trials_job.prune_network
    monkeypatch.setattr(
        trials_job,
        "prune_network",
        lambda *args, **options: pruned.append(prune(*args, **options)) or pruned[-1],
    )
    at = bench(digits)
    outcome = at.measure(recommended("hamp", epochs=20, dense_epochs=20, rounds=1), 0)
    sides = [tuple(part[rows] for part in at.samples) for rows in (at.splits[0].train,)]
    sides += [tuple(part[rows] for part in at.samples) for rows in (at.splits[0].judged,)]
    assert outcome.leakage == strongest(pruned[0].model, *sides)[0]
    assert outcome.leakage != strongest(pruned[0].served, *sides)[0]


@pytest.mark.parametrize("defense", ["none", "rsw", "swmr", "distill", "hamp"])
def test_what_trials_share_changes_no_figure(defense, digits):
    short = {"epochs": 1, "dense_epochs": 3, "score_epochs": 2}
    warm, asked = bench(digits, repeats=2), recommended(defense, **short)
    for other in ("none", "rmr", "distill"):
        warm.measure(recommended(other, **{**short, "weight_decay": asked.weight_decay}), 0)
        warm.measure(recommended(other, **short), 0)
    kept = len(warm.shared)
    again = warm.measure(asked, 0), warm.measure(asked, 1)
    cold = bench(digits, repeats=2)
    assert again == (cold.measure(asked, 0), cold.measure(asked, 1))
    assert kept >= 6  # the dense network and five score models, at least


# What is searched


@pytest.mark.parametrize("defense", SPACES)
def test_a_search_begins_with_the_defenses_own_settings(defense):
    from optuna import create_study

    study = create_study()
    study.enqueue_trial(first(defense, {}))
    candidate = suggest(study.ask(), list(SPACES), {})
    begun, usual = candidate.complete({}, trained=False), recommended(defense)
    assert replace(begun, defense_options={}) == usual
    # Windows in samples and bare scores do not carry over; all else is as published.
    carried = {"width", "stride", "threshold"} if SPACES[defense].fixed else set()
    for name in SPACES[defense].options.keys() - carried:
        assert candidate.options[name] == getattr(DEFENSES[defense], name), name


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("defense", SPACES)
def test_whatever_is_sampled_is_a_valid_setting(defense, trained):
    from optuna import create_study
    from optuna.samplers import RandomSampler

    study = create_study(sampler=RandomSampler(seed=0))
    study.enqueue_trial(first(defense, {"epochs": 3}))
    for _ in range(20):
        candidate = suggest(study.ask(), [defense], {"epochs": 3})
        assert "epochs" not in candidate.settings
        complete = candidate.complete({"epochs": 3}, trained=trained)
        assert complete.epochs == 3
        json.dumps(candidate.__dict__)


def test_a_trained_network_trains_again_only_under_a_defense_of_all_training():
    assert Candidate("base", {}, {}).complete({}, trained=True).dense_epochs == 0
    assert Candidate("base", {}, {}).complete({"dense_epochs": 3}, trained=True).dense_epochs == 3
    usual = recommended("distill").dense_epochs
    assert Candidate("distill", {}, {}).complete({}, trained=True).dense_epochs == usual > 0
    assert Candidate("relaxloss", {"whole": True}, {}).complete({}, trained=True).dense_epochs == 50


@pytest.mark.parametrize(
    "options",
    [
        {"trials": 0},
        {"repeats": 0},
        {"repeats": 6},
        {"loss": -0.1},
        {"loss": 1.0},
        {"loss": float("nan")},
        {"sparsity": 1.0},
        {"defenses": ()},
        {"defenses": ("base", "base")},
        {"defenses": ("auto",)},
        {"defenses": ("hope",)},
        {"fixed": {"defense": "base"}},
        {"fixed": {"sparsity": 0.5}},
        {"fixed": {"speed": 1}},
        {"fixed": {"rounds": -1}},
        {"fixed": {"pruner": "scissors"}},
    ],
)
def test_a_search_that_makes_no_sense_is_refused(options):
    with pytest.raises(OptionError):
        Search(**options)


# The loop, with scripted measurements


@pytest.fixture
def scripted(monkeypatch, digits):
    """Return a search whose measurements are looked up instead of made, and what it asked for."""

    def run(answer, search):
        asked = []

        def measure(self, settings, number):
            asked.append((settings.defense, number))
            return answer(settings, number)

        monkeypatch.setattr(Bench, "measure", measure)
        network = Network(build, build, trained=False)
        return explore(network, digits, search=search, seed=0, stages=Forgetful()), asked

    return run


FIGURES = {"none": (0.70, 0.90), "distill": (0.69, 0.60), "base": (0.66, 0.70), "ppb": (0.72, 0.63)}


def test_a_trial_clearly_beaten_on_the_first_resplit_goes_no_further(scripted):
    result, asked = scripted(
        lambda settings, number: Outcome(*FIGURES[settings.defense], "conf"),
        Search(trials=4, defenses=tuple(FIGURES)),
    )
    # base is beaten by distill by 0.03 and 0.1; ppb beats none by 0.02, too late.
    assert [one["state"] for one in result["trials"]] == [
        "complete",
        "complete",
        "pruned",
        "complete",
    ]
    assert asked == [
        *[(name, number) for name in ("none", "distill") for number in (0, 1)],
        ("base", 0),
        *[("ppb", number) for number in (0, 1)],
    ]
    assert result["front"] == [3, 1]
    assert result["pick"]["number"] == 3
    assert result["trials"][2]["dev_accuracy"] == 0.66


def test_a_trial_that_cannot_train_fails_alone(scripted):
    def answer(settings, number):
        if settings.defense == "distill":
            raise OptionError("the loss became nan")
        return Outcome(0.6, 0.55, "conf")

    result, _ = scripted(answer, Search(trials=6, defenses=("distill", "none", "base")))
    assert result["trials"][0]["state"] == "failed"
    assert result["trials"][0]["reason"] == "the loss became nan"
    assert result["trials"][0]["dev_accuracy"] is None
    assert result["pick"]["defense"] != "distill"
    with pytest.raises(OptionError, match="the loss became nan"):
        scripted(answer, Search(trials=2, defenses=("distill",)))


def test_a_candidate_that_was_tried_is_not_tried_again(scripted):
    only = Search(trials=4, defenses=("none",), fixed={"rounds": 1, "epochs": 1})
    result, asked = scripted(lambda *_: Outcome(0.6, 0.55, "conf"), only)
    assert asked == [("none", 0), ("none", 1)]
    assert [one["dev_accuracy"] for one in result["trials"]] == [0.6] * 4
    assert result["pick"]["number"] == 0


def test_the_search_goes_where_it_pays(scripted):
    """Leakage grows with the weight decay's distance from 0.02, accuracy does not change."""

    def answer(settings, number):
        distance = abs(np.log10(settings.defense_options["weight_decay"] / 0.02))
        return Outcome(0.6, float(0.5 + 0.1 * distance), "conf")

    result, _ = scripted(answer, Search(trials=40, defenses=("base",), repeats=1))
    decays = [one["options"]["weight_decay"] for one in result["trials"]]
    assert decays[0] == 5e-4
    assert abs(np.log10(result["pick"]["options"]["weight_decay"] / 0.02)) < 0.05
    away = np.abs(np.log10(np.array(decays) / 0.02))
    assert np.median(away[20:]) < np.median(away[:10])


# On data


def test_a_search_keeps_within_its_figures(found):
    _, result = found
    assert [one["number"] for one in result["trials"]] == list(range(5))
    assert [one["defense"] for one in result["trials"]][:3] == ["none", "distill", "base"]
    for one in result["trials"]:
        assert 0 <= one["dev_accuracy"] <= 1
        assert 0.5 <= one["leakage"] <= 1
    assert result["judged"] == [26, 26]  # fifths of the 120 that train and the 10 of dev
    best = picked(result)
    assert (best.epochs, best.dense_epochs, best.rounds, best.sparsity) == (1, 2, 2, 0.6)
    assert best.defense == result["pick"]["defense"]


def test_test_rows_and_the_attackers_change_nothing(found, tmp_path, monkeypatch):
    """Poisoned with NaN, which no figure survives, and with wrong labels."""
    opened = open_case(SOURCE)
    table, split = opened.made.table, opened.made.split
    hidden = np.concatenate([split.test, split.attacker])
    poisoned = replace(table, inputs=table.inputs.copy(), labels=table.labels.copy())
    poisoned.inputs[hidden] = np.nan
    poisoned.labels[hidden] = np.roll(table.labels[hidden], 1)
    assert (poisoned.labels != table.labels).any()
    case = replace(opened, made=replace(opened.made, table=poisoned))
    monkeypatch.setattr(tune_job, "open_case", lambda source: case)
    assert timeless(tune(SOURCE, QUICK, out=tmp_path / "run")) == timeless(found[1])


@pytest.mark.parametrize("stop", [0, 1, 5])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(stop, found, tmp_path, monkeypatch):
    measure, calls = Bench.measure, []

    def interrupted(self, settings, number):
        calls.append(settings.defense)
        if len(calls) > stop:
            raise KeyboardInterrupt
        return measure(self, settings, number)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Bench, "measure", interrupted)
        tune(SOURCE, QUICK, out=tmp_path / "run")
    stages = read_run(tmp_path / "run", "tune").record["stages"]
    assert len(stages) < QUICK.trials
    assert timeless(tune(SOURCE, QUICK, out=tmp_path / "run")) == timeless(found[1])


def test_a_search_is_taken_up_with_more_trials_or_another_loss(found, tmp_path, monkeypatch):
    _, whole = found
    folder = tmp_path / "run"
    few = tune(SOURCE, replace(QUICK, trials=3), out=folder)
    assert timeless(few["trials"]) == timeless(whole["trials"][:3])
    assert timeless(tune(SOURCE, QUICK, out=folder)) == timeless(whole)
    monkeypatch.setattr(Bench, "measure", None)  # nothing is trained again
    generous = tune(SOURCE, replace(QUICK, loss=0.9), out=folder)
    assert generous["trials"] == read_run(folder, "tune").result["trials"]
    assert generous["pick"]["leakage"] == min(one["leakage"] for one in whole["trials"])


def test_a_search_with_other_settings_or_of_another_version_is_refused(found, tmp_path):
    folder, _ = found
    with pytest.raises(OptionError, match="sparsity"):
        tune(SOURCE, replace(QUICK, sparsity=0.5), out=folder)
    record = json.loads((folder / "run.json").read_text())
    record["stages"]["trial-4"]["defense"] = "ppb"
    (tmp_path / "stages").symlink_to(folder / "stages")
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="trial 4"):
        tune(SOURCE, QUICK, out=tmp_path)


def test_an_earlier_search_serves_a_run_on_the_same_data_only(found, tmp_path):
    folder, result = found
    assert tuned_before(folder, SOURCE, sparsity=0.6) == picked(result)
    with pytest.raises(OptionError, match="sparsity"):
        tuned_before(folder, SOURCE, sparsity=0.7)
    for other in (replace(SOURCE, seed=4), replace(SOURCE, samples=400)):
        with pytest.raises(DataError, match="the same data and seed"):
            tuned_before(folder, other, sparsity=0.6)
    with pytest.raises(DataError, match="holds no run"):
        tuned_before(tmp_path, SOURCE, sparsity=0.6)


def test_auto_prunes_and_is_audited_under_the_settings_picked(found, tmp_path):
    _, result = found
    folder = tmp_path / "run"
    pruned = prune_source(SOURCE, QUICK, out=folder)
    assert timeless(read_run(folder / "tune", "tune").result) == timeless(result)
    best = picked(result)
    assert pruned["defense"] == best.defense
    run = read_run(folder, "prune")
    assert PruneSettings(**{name: run.record["settings"][name] for name in vars(best)}) == best
    assert prune_source(SOURCE, QUICK, out=folder) == pruned
    assert _remake(run)[1].settings == best
    audit = audit_run(folder, Settings("conf", 1, jobs=1))
    assert audit["defense"] == best.defense
    assert len(audit["findings"]) == 1


def test_auto_refuses_a_folder_of_something_else_before_it_searches(tmp_path, monkeypatch):
    monkeypatch.setattr(search_job, "_study", None)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"other than a tuned run"):
        prune_source(SOURCE, QUICK, out=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_auto_in_memory(digits, monkeypatch):
    few = partial(Search, trials=3, defenses=("none", "base", "distill"))
    monkeypatch.setattr(prune_job, "Search", few)
    model = build()
    train, dev = digits
    runs = [
        privet.prune(model, train, dev, defense="auto", sparsity=0.5, rounds=2, seed=7)
        for _ in range(2)
    ]
    first_run, again = runs
    assert first_run.settings == again.settings
    assert first_run.settings.defense in ("none", "base", "distill")
    assert (first_run.settings.sparsity, first_run.settings.rounds) == (0.5, 2)
    for name, tensor in first_run.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])
    with pytest.raises(OptionError, match="leave them out"):
        privet.prune(model, train, dev, defense="auto", options={"weight": 2.0})


def test_optuna_keeps_quiet_and_is_left_as_it_was(scripted, capfd):
    from optuna import logging

    before = logging.get_verbosity()
    scripted(lambda *_: Outcome(0.6, 0.55, "conf"), Search(trials=12))
    assert logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")

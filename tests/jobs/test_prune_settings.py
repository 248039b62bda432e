"""Settings of pruning: what a defense brings along, what wins, and what is refused at once."""

import json
from dataclasses import asdict, fields

import pytest

from privet.defenses import DEFENSES, choose
from privet.errors import OptionError
from privet.jobs.settings import PruneSettings, recommended


@pytest.mark.parametrize("defense", DEFENSES)
def test_a_defense_begins_with_the_settings_it_was_made_for(defense):
    settings, own = recommended(defense), choose(defense, {}).settings
    for each in fields(PruneSettings):
        if each.name in own:
            assert getattr(settings, each.name) == own[each.name]
        elif each.name not in ("defense", "defense_options", "pruner_options"):
            assert getattr(settings, each.name) == getattr(PruneSettings, each.name)
    assert settings.defense == defense


def test_what_is_asked_for_wins_over_what_the_defense_was_made_for():
    own = choose("distill", {}).settings
    settings = recommended("distill", {"hard": 0.5}, rounds=4, weight_decay=0.25, sparsity=0.3)
    assert (settings.rounds, settings.weight_decay, settings.sparsity) == (4, 0.25, 0.3)
    assert settings.dense_epochs == own["dense_epochs"]
    assert settings.defense_options == {**vars(choose("distill", {})), "hard": 0.5}


def test_settings_survive_json():
    settings = recommended("swmr", {"width": 3}, pruner_options={"scope": "global"}, rewind=2)
    assert PruneSettings(**json.loads(json.dumps(asdict(settings)))) == settings


def test_options_are_copied():
    options = {"hard": 0.5}
    settings = recommended("distill", options)
    options["hard"] = 7
    assert settings.defense_options == {**vars(choose("distill", {})), "hard": 0.5}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"defense": "hope"}, "hope"),
        ({"defense": "rsw", "defense_options": {"wide": 3}}, "wide"),
        ({"defense": "rsw", "defense_options": {"width": -3}}, "-3"),
        ({"pruner": "scissors"}, "scissors"),
        ({"pruner_options": {"sharp": 1}}, "sharp"),
        ({"pruner_options": {"scope": "all"}}, "all"),
        ({"sparsity": 1.0}, "1.0"),
        ({"sparsity": -0.1}, "-0.1"),
        ({"sparsity": float("nan")}, "nan"),
        ({"rounds": -1}, "-1"),
        ({"rounds": 0}, "0.6 takes at least one round"),
        ({"schedule": "steep"}, "steep"),
        ({"epochs": 0}, "epochs"),
        ({"patience": 0}, "patience"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "nan"),
        ({"dense_epochs": -1}, "-1"),
        ({"weight_decay": -1.0}, "-1.0"),
        ({"weight_decay": float("inf")}, "inf"),
        ({"scores": "guessed"}, "guessed"),
        ({"score_models": 1}, "1"),
        ({"score_epochs": 0}, "0"),
        ({"scores": "subsampled", "score_models": 5}, "even number.*got 5"),
        ({"rewind": -1}, "-1"),
        ({"rewind": 51}, r"0\.\.50; got 51"),
        ({"rewind": 2, "pruner": "structural"}, "structural"),
    ],
)
def test_impossible_settings_are_named_at_once(changes, word):
    with pytest.raises(OptionError, match=word):
        PruneSettings(**changes)


def test_no_rounds_leave_the_dense_network():
    assert PruneSettings(rounds=0, sparsity=0.0).plan.sparsities == ()


@pytest.mark.parametrize("learning_rate", [float("inf"), -1.0])
def test_learning_rates_without_end_or_below_zero_are_refused(learning_rate):
    with pytest.raises(OptionError, match="learning_rate"):
        PruneSettings(learning_rate=learning_rate)


def test_a_linear_schedule_reaches_the_plan():
    settings = PruneSettings(schedule="linear", sparsity=0.6, rounds=4)
    assert settings.plan.sparsities == pytest.approx((0, 0.2, 0.4, 0.6))


def test_an_unknown_setting_is_named():
    with pytest.raises(OptionError, match="'speed'"):
        recommended("base", speed=3)
    with pytest.raises(OptionError, match="'hope'"):
        recommended("hope")

"""The rows of WeMem's table: what each changes, and what wins over what."""

import pytest

from privet.defenses import DEFENSES
from privet.errors import OptionError
from privet.jobs.settings import recommended
from privet.reproduce.rows import FEW, ROWS, Row, choose_rows

SCALE = {"dense_epochs": 7, "rounds": 3, "epochs": 2, "score_epochs": 4}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("scale", [{}, SCALE], ids=["usual", "small"])
def test_every_row_makes_settings(name, scale):
    row = ROWS[name]
    settings = row.settings(0.6, scale)
    assert settings.defense == row.defense
    for key, value in row.changes.items():
        assert getattr(settings, key) == value
    assert row.about or not row.control


def test_every_defense_has_a_row_of_its_name():
    for name in DEFENSES:
        row = ROWS[name]
        assert not row.control
        assert row.settings(0.6, {}) == recommended(name, sparsity=0.6)


def test_no_two_rows_are_the_same():
    made = [ROWS[name].settings(0.6, {}) for name in ROWS]
    assert all(each not in made[:place] for place, each in enumerate(made))


def test_the_row_wins_over_the_defense_which_wins_over_the_scale():
    row = Row("mine", "none", changes={"epochs": 5})
    settings = row.settings(0.3, {"patience": 9, "epochs": 2, "batch_size": 17})
    # "none" was made for training without early stopping.
    assert (settings.epochs, settings.patience, settings.batch_size) == (5, None, 17)
    assert settings.sparsity == 0.3
    assert Row("dense", "base", changes={"sparsity": 0.0}).settings(0.3, {}).sparsity == 0.0


def test_what_a_scale_says_of_a_defense_wins_over_the_defense_and_yields_to_the_row():
    own = {"batch_size": 64, "dense_epochs": 40}
    distilled = ROWS["distill"].settings(0.6, {"dense_epochs": 20}, {}, own)
    assert (distilled.batch_size, distilled.dense_epochs) == (64, 40)
    assert ROWS["distill-iterative"].settings(0.6, {}, {}, {"rounds": 2}).rounds == 5


def test_options_of_a_row_reach_its_defense():
    assert ROWS["decay-0.03"].settings(0.6, {}).defense_options == {"weight_decay": 0.03}
    assert ROWS["rsw-random"].settings(0.6, {}).defense_options["order"] == "random"
    scaled = ROWS["distill-hard"].settings(0.6, {}, {"folds": 5, "hard": 0.5}).defense_options
    assert (scaled["folds"], scaled["hard"]) == (5, 1.0)
    assert ROWS["rmr-shuffled"].settings(0.6, {}).scores == "shuffled"
    assert ROWS["unpruned"].settings(0.6, {}).plan.sparsities == ()
    assert ROWS["from-scratch"].settings(0.6, {}).rewind == 0


def test_groups_stand_for_their_rows():
    every, defenses, controls, few = (
        [row.name for row in choose_rows([group])]
        for group in ("all", "defenses", "controls", "few")
    )
    assert every == list(ROWS)
    assert sorted(defenses + controls) == sorted(every)
    assert set(DEFENSES) == set(defenses)
    assert few == list(FEW)
    assert [row.name for row in choose_rows(["swmr", "none"])] == ["swmr", "none"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["hope"], "'hope'"),
        ([""], "''"),
        (["none", "none"], "once"),
        (["few", "none"], "once"),
        ([], "at least one"),
    ],
)
def test_rows_that_are_not_there_or_twice_are_refused(names, message):
    with pytest.raises(OptionError, match=message):
        choose_rows(names)

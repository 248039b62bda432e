import copy

import pytest

from privet.errors import DataError
from privet.report import render_html, tuning
from privet.report.terminal import tune_table


def _trial(number, defense, accuracy, leakage, *, state="complete", options=None):
    return {
        "number": number,
        "defense": defense,
        "options": options or {},
        "settings": {"weight_decay": 0.0005},
        "dev_accuracy": accuracy,
        "leakage": leakage,
        "state": state,
        "seconds": 2.0,
    }


@pytest.fixture
def search():
    trials = [
        _trial(0, "none", 0.70, 0.90),
        _trial(1, "distill", 0.695, 0.60, options={"power": 0.4, "hard": 0.06}),
        _trial(2, "base", 0.5, 0.80, state="pruned"),
        _trial(3, "dp", None, None, state="failed"),
        _trial(4, "rsw", 0.60, 0.55, options={"relative": True}),
    ]
    return {
        "dataset": "digits",
        "sparsity": 0.6,
        "loss": 0.01,
        "trials": trials,
        "front": [0, 1, 4],
        "pick": {**trials[1], "settings": {"defense": "distill", "weight_decay": 0.0005}},
        "rule": "least leakage with at most 1 point lost",
        "seconds": 10.0,
    }


def test_the_front_marks_the_pick(search):
    table = tuning.front(search)
    assert [row[0] for row in table.rows] == ["0", "1*", "4"]
    assert table.rows[1][1:] == (
        "distill",
        "hard 0.06, power 0.4, weight_decay 0.0005",
        "69.5%",
        "0.600",
    )
    assert tune_table(search).row_count == 3


def test_all_trials_are_listed_those_without_figures_too(search):
    rows = tuning.trials(search).rows
    assert [row[5] for row in rows] == ["complete", "complete", "pruned", "failed", "complete"]
    assert rows[3][3:5] == ("n/a", "n/a")


def test_the_page_says_what_was_picked_and_why(search):
    before = copy.deepcopy(search)
    html = render_html(search, "tune")
    assert search == before
    assert render_html(search, "tune") == html
    assert html.count("<svg") == 1
    assert "the pick, distill" in html
    assert "least leakage with at most 1 point lost" in html
    assert "never on test samples" in html


def test_strange_names_stay_text(search):
    search["trials"][0]["defense"] = search["pick"]["defense"] = "<b>$x^2$\x1b[1m"
    html = render_html(search, "tune")
    assert "<b>" not in html
    assert "\x1b" not in html


@pytest.mark.parametrize("key", ["pick", "trials", "front", "rule", "loss"])
def test_a_search_that_lacks_a_part_is_refused(key, search):
    del search[key]
    with pytest.raises(DataError):
        render_html(search, "tune")

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.errors import DataError
from privet.report import overall, printable, tables, wording


@pytest.mark.parametrize(
    ("say", "value", "words"),
    [
        (wording.percent, 0.58749, "58.7%"),
        (wording.percent, 1, "100.0%"),
        (wording.percent, None, "n/a"),
        (wording.percent, math.nan, "n/a"),
        (wording.level, 0.1, "10%"),
        (wording.level, 0.001, "0.1%"),
        (wording.decimal, 0.5, "0.500"),
        (wording.count, 401_040_000, "401,040,000"),
        (wording.speedup, 50, "50x"),
        (wording.speedup, 57.24, "57.2x"),
        (wording.size, 28_100, "28.1 kB"),
        (wording.size, 999, "999 B"),
        (wording.size, 999_600, "1 MB"),
        (wording.size, 1.6e9, "1.6 GB"),
        (wording.duration, 0.44, "0.4 s"),
        (wording.duration, 9.96, "10 s"),
        (wording.duration, 59.7, "1 min 0 s"),
        (wording.duration, 192.4, "3 min 12 s"),
        (wording.duration, 7500, "2 h 5 min"),
    ],
)
def test_numbers_in_words(say, value, words):
    assert say(value) == words


@pytest.mark.parametrize(
    ("value", "bound", "words"),
    [
        (0.052, 0.1, "5.2%"),
        (0.1, 0.1, "10.0%"),
        (0.1001, 0.1, "10.01%"),
        (0.10004, 0.1, "10.004%"),
        (0.1996, 0.19961, "19.96%"),
        (0.1 + 1e-15, 0.1, "just above 10%"),
        (0.5, None, "50.0%"),
    ],
)
def test_a_figure_shows_on_which_side_of_its_bound_it_is(value, bound, words):
    assert wording.against(value, bound) == words


@given(st.floats(0, 1), st.floats(0, 1))
def test_rounding_never_moves_a_figure_across_its_bound(value, bound):
    words = wording.against(value, bound)
    if words.startswith("just"):
        assert ("above" in words) == (value > bound)
    else:
        assert (float(words[:-1]) > float(wording.level(bound)[:-1])) == (value > bound)


def test_a_whole_number_beyond_floats_is_not_known():
    assert wording.percent(10**400) == "n/a"


@pytest.mark.parametrize("value", ["0.5", True, [0.5], {}])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(DataError, match="expected a number"):
        wording.percent(value)


@pytest.mark.parametrize(
    ("entry", "nonmembers", "words"),
    [
        (None, 10, "n/a"),
        ({"tpr": 0.2, "low": 0.1, "high": 0.3}, 10, "20.0% [10.0, 30.0]"),
        ({"tpr": 0.2, "low": None, "high": None}, 1000, "20.0%"),
        ({"tpr": 0.2, "resolved": False}, 99, "n/a (needs \u2265 100 nonmembers)"),
        ({"tpr": None}, None, "n/a (needs \u2265 100 nonmembers)"),
        ({"tpr": 0.2, "resolved": False}, 5000, "n/a (not resolved)"),
    ],
)
def test_rates_carry_their_interval_or_the_reason_for_none(entry, nonmembers, words):
    assert wording.rate(entry, fpr=0.01, nonmembers=nonmembers) == words


@given(st.text())
def test_printable_text_is_printable_and_otherwise_unchanged(text):
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert all(a == b for a, b in zip(text, shown, strict=True) if a.isprintable())


@given(st.lists(st.none() | st.floats(0, 1), max_size=8))
def test_the_mean_leaves_out_attacks_without_decisions(values):
    mean = overall.mean_balanced_accuracy([{"balanced_accuracy": value} for value in values])
    known = [value for value in values if value is not None]
    assert mean == (pytest.approx(sum(known) / len(known)) if known else None)


def test_settings_flatten_parts_and_leave_tables_out():
    document = {"seed": 7, "none": None, "on": True, "speedups": [50, 100], "rows": [{"a": 1}]}
    shown = tables.settings(document | {"fit": {"lr": 0.1}}, title="All").rows
    assert shown == (
        ("seed", "7"),
        ("none", "none"),
        ("on", "True"),
        ("speedups", "50, 100"),
        ("fit.lr", "0.1"),
    )

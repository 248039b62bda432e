"""From AUCs to effects and a recommendation, without a network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import sem

from privet.defenses import DEFENSES
from privet.jobs.scenarios import (
    ATTACKS,
    GROUPS,
    LEAST_EFFECT,
    METHODS,
    VARIANTS,
    Mean,
    conclude,
    mean,
)


def areas(*, noise=0.0, repeats=4, **over_half):
    """Return AUCs of 0.5 for all variants but those named, given as (all, lowest, highest)."""
    found = np.full((repeats, len(VARIANTS), len(ATTACKS), len(GROUPS)), 0.5)
    for name, values in over_half.items():
        found[:, VARIANTS.index(name.replace("_", "-"))] += values
    return found + noise * np.resize([1, -1], repeats)[:, None, None, None]


def effect(concluded, factor, against):
    (found,) = (e for e in concluded["effects"] if (e["factor"], e["against"]) == (factor, against))
    return found


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_a_mean_and_its_error_are_the_textbooks(values):
    found = mean(np.array(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.error == pytest.approx(sem(values), abs=1e-12)


@pytest.mark.parametrize(
    ("value", "error", "counts"),
    [
        (0.05, 0.0, True),
        (0.05, 0.024, True),
        (0.05, 0.026, False),
        (0.02, 0, False),
        (-0.3, 0, False),
    ],
)
def test_an_effect_counts_when_it_is_large_and_sure(value, error, counts):
    assert Mean(value, error).counts is counts


REUSED = (0.3, 0.3, 0.3)
MEMORABLE = (0.0, -0.1, 0.1)
BOTH = (0.3, 0.2, 0.4)


@pytest.mark.parametrize(
    ("iterative", "scenario", "method"),
    [
        ((0, 0, 0), "neither", "base"),
        (REUSED, "data reuse", "rsw"),
        (MEMORABLE, "inherent memorability", "rmr"),
        (BOTH, "both", "swmr"),
    ],
)
def test_each_scenario_has_its_method(iterative, scenario, method):
    concluded = conclude(areas(iterative=iterative))
    assert (concluded["scenario"], concluded["recommendation"]) == (scenario, method)
    assert concluded["compare"] == ["distill", "auto"]


def test_the_methods_are_defenses():
    assert {method for _, method in METHODS.values()} <= DEFENSES.keys()


@pytest.mark.parametrize(
    "others",
    [
        {"fresh": REUSED},  # longer training on anything leaks as much
        {"one_shot": REUSED},  # nothing is added to what was known after pruning once
    ],
)
def test_reuse_takes_both_comparisons(others):
    assert conclude(areas(iterative=REUSED, **others))["scenario"] == "neither"


@pytest.mark.parametrize("others", [{"shuffled": REUSED}, {"one_shot_long": REUSED}])
def test_comparisons_beside_these_do_not_decide(others):
    concluded = conclude(areas(iterative=REUSED, **others))
    assert concluded["scenario"] == "data reuse"
    name = next(iter(others)).replace("_", "-")
    (beside,) = (e for e in concluded["effects"] if e["against"] == name)
    assert (beside["decides"], beside["counts"], beside["mean"]) == (False, False, 0)


def test_effects_are_differences_within_a_repeat():
    """What moves all variants of a repeat alike, such as an easy division, is no error."""
    concluded = conclude(areas(iterative=BOTH, noise=0.05))
    for factor, against, value in (
        ("reuse", "one-shot", 0.3),
        ("reuse", "fresh", 0.3),
        ("memorability", "lowest", 0.2),
    ):
        found = effect(concluded, factor, against)
        assert found["mean"] == pytest.approx(value)
        assert found["error"] == pytest.approx(0, abs=1e-12)
    assert concluded["variants"][0]["auc"]["all"]["error"] == pytest.approx(0.05 / 3**0.5)


def test_an_unsure_effect_does_not_count():
    found = areas(iterative=REUSED)
    found[::2, VARIANTS.index("one-shot")] += 0.59
    one_shot = effect(conclude(found), "reuse", "one-shot")
    assert one_shot["mean"] == pytest.approx(0.005)
    found[0, VARIANTS.index("one-shot")] -= 0.59
    one_shot = effect(conclude(found), "reuse", "one-shot")
    assert one_shot["mean"] > LEAST_EFFECT
    assert one_shot["counts"] is False


def test_one_attack_speaks_for_all_variants():
    """The strongest attack overall, even where another is stronger on one variant."""
    found = areas(iterative=REUSED)
    found[:, :, ATTACKS.index("mentr")] += 0.1
    found[:, VARIANTS.index("fresh"), ATTACKS.index("gap")] += 0.15
    concluded = conclude(found)
    assert concluded["attack"] == "mentr"
    fresh = concluded["variants"][VARIANTS.index("fresh")]
    assert fresh["auc"]["all"]["mean"] == pytest.approx(0.6)
    assert fresh["auc_by_attack"]["gap"]["mean"] == pytest.approx(0.65)

import pytest

from privet.report import definitions, render_html


def column(build, position):
    return [row[position] for row in definitions.definitions(build).rows]


def test_the_worst_tier_is_shown_as_the_build_measured_it(build):
    assert column(build, 2) == ["m = 2%", "r = 5%", "q = 35%", "n = 10%"]
    # n as measured on the users both were attacked on: from the averages it would be 6.0%.
    assert column(build, 3) == ["1.0% (200x)", "2.0% (50x)", "30.0% (200x)", "9.8% (200x)"]
    assert column(build, 4) == ["met"] * 4


def test_figures_of_the_build_around_the_check_change_nothing(build):
    before = definitions.definitions(build)
    build["base"].update(accuracy=0.1, parameters=5)
    build["base_attack_accuracy_by_budget"] = {"2": 0.9}
    build["tiers"][0].update(attack_accuracy=0.9, accuracy=0.0)
    assert definitions.definitions(build) == before


def test_a_bound_missed_by_less_than_a_digit_is_seen_to_be_missed(build):
    checked = build["tiers"][1]["definitions"]
    checked["measured"]["r"] = 0.0500499
    checked.update(failed=["r"], passed=False)
    build["definitions"]["passed"] = False
    assert column(build, 3)[1] == "5.005% (100x)"
    assert column(build, 4) == ["met", "missed", "met", "met"]
    assert "5.005% (100x)" in render_html(build, "protect")


def test_what_was_not_measured_is_not_called_met(build):
    del build["tiers"][0]["definitions"]
    assert column(build, 3)[1] == "1.0% (100x)"
    assert column(build, 4) == ["not measured"] * 4
    for tier in build["tiers"]:
        tier["definitions"] = {"m": 0.01, "failed": [], "passed": True}
    assert column(build, 3) == column(build, 4) == ["not measured"] * 4
    build["tiers"] = []
    assert column(build, 4) == ["not measured"] * 4


def test_a_missed_bound_outweighs_what_is_not_known(build):
    build["tiers"][0]["definitions"]["failed"] = ["q"]
    build["tiers"][0]["definitions"]["measured"]["q"] = None
    assert column(build, 4)[2] == "missed"
    del build["definitions"]["m"]
    assert column(build, 4)[0] == "no bound"


def test_the_note_says_when_the_unpruned_model_met_other_users(build):
    assert "on the first 400 of 1,631 users only" in definitions.definitions(build).note
    build["attacked_users"] = 400
    assert definitions.definitions(build).note == ""


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({}, "it does not say why"),
        ({"definitions": {"failed": ["m"], "passed": False}}, "outside the bounds"),
        ({"released": False}, "was refused, because it hardly ever finds noise"),
    ],
)
def test_a_build_that_did_not_pass_says_why(build, damage, words):
    assert definitions.verdict(build).startswith("The build passed")
    build["definitions"]["passed"] = False
    build["tiers"][0].update(damage)
    assert words in definitions.verdict(build)


@pytest.mark.parametrize(
    ("checked", "holds"),
    [
        ({"passed": True}, True),
        ({"passed": False}, False),
        ({"passed": True, "failed": ["n"]}, False),
        ({"passed": True, "measured": {"m": 0.3}, "bounds": {"m": 0.2}}, False),
        ({"passed": "true"}, None),
        ({}, None),
        (["passed"], None),
        (None, None),
    ],
)
def test_a_check_from_a_stranger_holds_only_if_it_says_so_and_its_figures_agree(checked, holds):
    assert definitions.passed(checked) is holds

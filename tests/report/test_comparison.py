import pytest

from privet.report import comparison, render_html, terminal


@pytest.fixture
def pruning(demo):
    """Three defenses under each of which one attack finds 3.5% of the members, 2.5% to 4.8%."""
    for entry in demo["pruning"]:
        for finding in entry["audit"]["findings"]:
            _found(finding, 0.035, 0.025, 0.048)
    return demo["pruning"]


def _found(finding, tpr, low, high):
    finding["tpr_at_fpr"]["0.01"] = {"tpr": tpr, "low": low, "high": high, "resolved": True}


def test_a_defense_that_exposes_more_members_is_called_out(pruning):
    _found(pruning[1]["audit"]["findings"][2], 0.127, 0.11, 0.145)
    words = (
        "Under rmr (12.7%) an attack finds more members at 1% FPR than under no defense (3.5%): "
        "averages alone would hide it."
    )
    assert comparison.exposed(pruning) == words
    assert str(terminal.comparison_table(pruning).caption).startswith(words)


def test_the_page_says_so_too(demo, pruning):
    demo["pruning"] = pruning
    assert "averages alone" not in render_html(demo, "demo")
    _found(pruning[1]["audit"]["findings"][2], 0.127, 0.11, 0.145)
    assert "Under rmr (12.7%) an attack finds more" in render_html(demo, "demo")


def test_averages_hide_nothing_when_they_are_higher_too(pruning):
    _found(pruning[2]["audit"]["findings"][0], 0.2, 0.1, 0.3)
    for finding in pruning[2]["audit"]["findings"]:
        finding["balanced_accuracy"] = 0.99
    assert comparison.exposed(pruning).endswith("than under no defense (3.5%).")


@pytest.mark.parametrize(
    "change",
    [
        lambda pruning: _found(pruning[1]["audit"]["findings"][2], 0.06, 0.047, 0.08),
        lambda pruning: _found(pruning[1]["audit"]["findings"][2], 0.06, None, None),
        lambda pruning: _found(pruning[0]["audit"]["findings"][2], 0.06, 0.047, 0.08),
        lambda pruning: pruning[1].update(audit=None),
        lambda pruning: pruning[1]["audit"].update(findings=[]),
    ],
)
def test_nothing_is_claimed_without_intervals_that_lie_apart(pruning, change):
    change(pruning)
    assert comparison.exposed(pruning) == ""


@pytest.mark.parametrize("missing", ["audit", "defense"])
def test_nothing_is_claimed_without_a_baseline(pruning, missing):
    _found(pruning[1]["audit"]["findings"][2], 0.127, 0.11, 0.145)
    if missing == "audit":
        pruning[0]["audit"] = None
    else:
        pruning[0]["prune"]["defense"] = "other"
    assert comparison.exposed(pruning) == ""

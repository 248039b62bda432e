"""The tables of a reproduced paper, from a document made by hand."""

import shlex

import pytest

from privet.report.reproduction import wemem_markdown, wemem_tables


def attack(balanced, auc, tpr, *, resolved=True, spread=0.01):
    def both(name, value):
        return {name: value, f"{name}_sd": None if value is None or spread is None else spread}

    return {
        **both("balanced_accuracy", balanced),
        **both("auc", auc),
        "tpr_at_fpr": {"0.01": {**both("tpr", tpr), "low": 0, "high": 1, "resolved": resolved}},
        "seconds": 1.0,
    }


def row(defense, *, published=None, spread=0.01, resolved=True):
    return {
        "defense": defense,
        "setting": "",
        "test_accuracy": 0.625,
        "test_accuracy_sd": spread,
        "seconds": 72.0,
        "mean_advantage": 0.25,
        "mean_advantage_sd": spread,
        "attacks": {
            "conf": attack(0.6, 0.7, 0.05, spread=spread, resolved=resolved),
            "lira": attack(None, 0.8, 0.04, spread=spread, resolved=resolved),
        },
        "published": published,
    }


def document(*rows, **other):
    return {
        "dataset": "location",
        "sparsity": 0.6,
        "seeds": [0, 1, 2],
        "shadows": 5,
        "adaptive": True,
        "online": True,
        "rows": rows or (row("none", published={"test_accuracy": 0.641}), row("swmr")),
        **other,
    }


def test_a_defense_stands_with_its_strongest_attacks():
    defenses = wemem_tables(document())[0]
    assert list(defenses.rows[0]) == [
        "none",
        "62.5% ± 1.0",
        "0.250 ± 0.010",
        "0.800 ± 0.010 (lira)",
        "5.0% ± 1.0 (conf)",
        "1 min 12 s",
        "64.1%",
    ]
    assert defenses.rows[1][-1] == "n/a"


def test_each_attack_stands_against_each_defense():
    _, balanced, auc, rate = wemem_tables(document())
    for each in (balanced, auc, rate):
        assert each.columns == ("attack", "none", "swmr")
        assert [line[0] for line in each.rows] == ["conf", "lira"]
        assert all(len(line) == 3 for line in each.rows)
    assert balanced.rows[0][1] == "60.0% ± 1.0"
    assert balanced.rows[1][1] == "n/a"  # lira only ranks
    assert auc.rows[1][2] == "0.800 ± 0.010"
    assert rate.rows[0][1] == "5.0% ± 1.0"


def test_what_is_not_resolved_is_no_figure():
    rate = wemem_tables(document(row("none", resolved=False)))[3]
    assert rate.rows[0][1] == "n/a (unresolved)"


def test_a_single_seed_shows_no_deviation():
    tables = wemem_tables(document(row("none", spread=None), seeds=[4]))
    assert tables[0].rows[0][1] == "62.5%"
    assert not any("±" in cell for each in tables for line in each.rows for cell in line)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"adaptive": False}, "does not know the defense"),
        ({"adaptive": True}, "knows the defense"),
        ({"online": False}, "other samples only"),
        ({"shadows": 1234}, "1,234 shadow models"),
    ],
)
def test_the_note_says_what_the_attacker_knows(known, said):
    assert said in wemem_tables(document(**known))[0].note


def test_the_page_holds_every_table_and_its_note():
    page = wemem_markdown(document())
    for each in wemem_tables(document()):
        assert f"## {each.title}" in page
        assert each.note in page
    assert page.count("| conf |") == 3
    assert page.endswith("\n")
    assert not page.endswith("\n\n")


def made_by(page):
    """Return the words of the command that a page says it was made by."""
    return shlex.split(page.partition("`")[2].partition("`")[0])


def test_the_page_names_its_command():
    words = made_by(wemem_markdown(document()))
    assert words[:3] == ["privet", "reproduce", "wemem"]
    assert words[words.index("--dataset") + 1] == "location"
    assert words[words.index("--seeds") + 1] == "3"
    assert words[words.index("--shadows") + 1] == "5"


def test_the_named_command_makes_this_very_page():
    words = made_by(wemem_markdown(document(seeds=[4, 5], attacks=["conf", "lira"])))
    assert words[words.index("--defenses") + 1] == "none,swmr"
    assert words[words.index("--attacks") + 1] == "conf,lira"
    assert words[words.index("--first-seed") + 1] == "4"


def test_the_named_command_quotes_a_file():
    words = made_by(wemem_markdown(document(dataset="my people.csv")))
    assert words[words.index("--dataset") + 1] == "my people.csv"


def test_one_seed_is_not_spoken_of_as_several():
    assert "1 seeds" not in wemem_tables(document(row("none", spread=None), seeds=[0]))[0].note

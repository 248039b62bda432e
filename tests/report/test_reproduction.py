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


def row(defense, *, published=None, spread=0.01, resolved=True, sparsity=0.6, **other):
    def strongest(name, auc):
        return {"attack": name, "auc": auc, "auc_sd": spread}

    return {
        "defense": defense,
        "sparsity": sparsity,
        "setting": "",
        "about": "",
        "guarantee": None,
        "threshold_balanced_accuracy": 0.59,
        "threshold_balanced_accuracy_sd": spread,
        "pooled_balanced_accuracy": 0.6,
        "pooled_balanced_accuracy_sd": spread,
        "strongest_pooled": strongest("conf", 0.7),
        "strongest_calibrated": strongest("lira", 0.8),
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
        **other,
    }


def document(*rows, **other):
    return {
        "dataset": "location",
        "sparsity": 0.6,
        "seeds": [0, 1, 2],
        "shadows": 5,
        "adaptive": True,
        "online": True,
        "pooled": ["conf", "entr"],
        "rows": rows or (row("none", published={"test_accuracy": 0.641}), row("swmr")),
        **other,
    }


def test_a_defense_stands_with_its_strongest_attacks():
    defenses = wemem_tables(document())[0]
    assert list(defenses.rows[0]) == [
        "none",
        "62.5% ± 1.0",
        "59.0% ± 1.0",
        "60.0% ± 1.0",
        "0.700 ± 0.010 (conf)",
        "0.800 ± 0.010 (lira)",
        "n/a",
        "5.0% ± 1.0 (conf)",
        "1 min 12 s",
        "64.1%",
    ]
    assert defenses.rows[1][-1] == "n/a"


def test_each_attack_stands_against_each_defense():
    _, balanced, auc, rate = wemem_tables(document())
    for each in (balanced, auc, rate):
        assert each.columns == ("row", "conf", "lira")
        assert [line[0] for line in each.rows] == ["none", "swmr"]
        assert all(len(line) == 3 for line in each.rows)
    assert balanced.rows[0][1] == "60.0% ± 1.0"
    assert balanced.rows[0][2] == "n/a"  # lira only ranks
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
    assert page.count("| none |") == 4
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
    assert words[words.index("--rows") + 1] == "none,swmr"
    assert words[words.index("--sparsity") + 1] == "0.6"
    assert words[words.index("--attacks") + 1] == "conf,lira"
    assert words[words.index("--first-seed") + 1] == "4"


def test_the_named_command_quotes_a_file():
    words = made_by(wemem_markdown(document(dataset="my people.csv")))
    assert words[words.index("--dataset") + 1] == "my people.csv"


def test_one_seed_is_not_spoken_of_as_several():
    assert "1 seeds" not in wemem_tables(document(row("none", spread=None), seeds=[0]))[0].note


def several(*sparsities):
    """A document of two sparsities; the unpruned network stands between the others."""
    first, *others = sparsities
    rows = [row("none", sparsity=first), row("unpruned", sparsity=0.0), row("swmr", sparsity=first)]
    for sparsity in others:
        rows += [row("none", sparsity=sparsity), row("swmr", sparsity=sparsity)]
    return document(*rows, sparsity=list(sparsities))


def test_each_sparsity_has_its_tables_with_the_rows_in_order():
    tables = wemem_tables(several(0.5, 0.7))
    assert len(tables) == 8
    assert ["50.0%" in each.title for each in tables] == [True] * 4 + [False] * 4
    assert ["70.0%" in each.title for each in tables] == [False] * 4 + [True] * 4
    for each in tables:
        assert [line[0] for line in each.rows] == ["none", "unpruned", "swmr"]


def test_a_sparsity_of_zero_does_not_stand_in_the_other_tables():
    tables = wemem_tables(several(0.0, 0.7))
    for each in tables:
        assert [line[0] for line in each.rows] == ["none", "unpruned", "swmr"]
    assert tables[0].title == "WeMem on location, 0.0% pruned"


def test_the_named_command_asks_for_every_sparsity_and_each_row_once():
    words = made_by(wemem_markdown(several(0.5, 0.7)))
    assert words[words.index("--sparsity") + 1] == "0.5,0.7"
    assert words[words.index("--rows") + 1] == "none,unpruned,swmr"


def test_several_releases_have_a_column():
    pair = row("none")
    pair["attacks"]["multi-release"] = attack(0.6, 0.77, 0.03)
    assert "0.770 ± 0.010" in wemem_tables(document(pair))[0].rows[0]


@pytest.mark.parametrize(("epsilon", "said"), [(4.25, "epsilon 4.25"), (None, "unbounded")])
def test_what_a_defense_proves_is_said(epsilon, said):
    proof = {"epsilon": epsilon, "delta": 5e-4}
    note = wemem_tables(document(row("dp", guarantee=proof)))[0].note
    assert said in note
    assert "0.0005" in note
    assert "epsilon" not in wemem_tables(document())[0].note


def test_the_size_and_what_rows_are_is_said():
    scale = {"samples": 2000, "model": "auto", "width": 8, "changes": {"epochs": 8}}
    rows = [row("none", about="no defense at all"), row("swmr")]
    note = wemem_tables(document(*rows, scale=scale))[0].note
    for said in ("2000 samples", "width 8", "epochs 8", "none: no defense at all"):
        assert said in note
    assert "Size" not in wemem_tables(document())[0].note


def test_without_pooled_or_calibrated_attacks_there_is_no_figure():
    bare = {"pooled_balanced_accuracy": None, "pooled_balanced_accuracy_sd": None}
    bare |= {"strongest_pooled": None, "strongest_calibrated": None}
    assert wemem_tables(document(row("none", **bare)))[0].rows[0][3:6] == ("n/a",) * 3

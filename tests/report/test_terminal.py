from io import StringIO

import pytest
from rich.console import Console

from privet.report import tables, terminal


def shown(renderable, *, width=120):
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(renderable)
    return console.file.getvalue().replace("\N{NO-BREAK SPACE}", " ")


def line(text, start):
    return next(one for one in text.splitlines() if one.split()[:1] == [start])


def test_an_audit_shows_rates_with_intervals_and_refuses_what_it_cannot_resolve(run):
    finding = run["audit"]["findings"][0]
    finding.update(balanced_accuracy=0.5876, auc=0.6123)
    finding["tpr_at_fpr"]["0.01"] = {"tpr": 0.042, "low": 0.0211, "high": 0.0742, "resolved": True}
    text = shown(terminal.audit_table(run["audit"]))
    row = line(text, "conf")
    assert "58.8%" in row
    assert "0.612" in row
    assert "4.2% [2.1, 7.4]" in row
    assert "TPR at 0.1% FPR: needs \u2265 1,000 nonmembers, there are 400." in " ".join(
        text.split()
    )
    finding["tpr_at_fpr"]["0.001"]["resolved"] = True
    row = line(shown(terminal.audit_table(run["audit"])), "entr")
    assert "n/a (needs \u2265 1,000 nonmembers)" in row


def lines_of(text, attacks):
    return [one for one in text.splitlines() if one.split()[:1] and one.split()[0] in attacks]


@pytest.mark.parametrize(("width", "intervals"), [(80, 2), (68, 1), (55, 0), (200, 2)])
def test_eighteen_attacks_take_a_line_each_with_the_intervals_there_is_room_for(
    run, width, intervals
):
    found = run["audit"]["findings"]
    names = [f"{place:02}-long-name" for place in range(18)]
    run["audit"]["findings"] = [{**found[p % len(found)], "attack": n} for p, n in enumerate(names)]
    text = shown(terminal.audit_table(run["audit"]), width=width)
    rows = lines_of(text, names)
    assert len(rows) == 18
    assert all(row.count("[") == row.count("]") == intervals for row in rows)
    # The lowest FPR keeps its interval longest.
    assert all(row.rstrip().endswith("]" if intervals else "%") for row in rows)
    assert ("A wider terminal" in " ".join(text.split())) == (intervals < 2)


@pytest.mark.parametrize(("width", "intervals"), [(80, 2), (100, 3)])
def test_three_false_positive_rates_fit_too(run, width, intervals):
    for finding in run["audit"]["findings"]:
        finding["tpr_at_fpr"]["0.001"]["resolved"] = True
    row = line(shown(terminal.audit_table(run["audit"]), width=width), "mentr")
    assert row.count("%") == 4
    assert row.count("]") == intervals


def test_an_audit_says_what_the_attacker_knew_and_what_was_not_run(run, older):
    audit = run["audit"] | {
        "adaptive": False,
        "online": False,
        "skipped": {"lira": "reference models", "rmia": "reference models", "samia": "time"},
    }
    text = " ".join(shown(terminal.audit_table(audit)).split())
    assert "Not adaptive: 5 shadow models were trained without the target's defense" in text
    assert "Offline: no shadow model trained on an audited sample" in text
    assert "Not run: lira, rmia (lacks reference models); samia (lacks time)." in text
    text = " ".join(shown(terminal.audit_table(audit | {"shadows": 0})).split())
    assert "There were no shadow models" in text
    assert "Not adaptive" not in text
    text = " ".join(shown(terminal.audit_table(older["audit"] | {"adaptive": None})).split())
    assert not {"Online", "Offline", "Adaptive", "Not"} & set(text.replace(":", "").split())


def test_an_attack_without_a_decision_rule_has_no_balanced_accuracy(run):
    assert line(shown(terminal.audit_table(run["audit"])), "lira").split()[1] == "n/a"


def test_a_run_shows_each_round_and_the_finished_model(run):
    text = shown(terminal.prune_table(run["prune"]))
    assert line(text, "4").split() == ["4", "60.0%", "99.0%", "64.0%", "2.5", "s"]
    assert "test accuracy 65.4%" in text
    assert "61,234 of 150,000" in text


def test_a_build_shows_the_unpruned_model_and_its_tiers(build):
    text = shown(terminal.protect_table(build))
    assert line(text, "unpruned").split()[1:6] == [
        "1x",
        "40,104,025",
        "40,100,000",
        "49.1%",
        "33.0%",
    ]
    assert line(text, "50x").split()[1:] == [
        *("55x", "802,080", "802,000", "49.4%", "27.0%", "3.21", "MB", "99.3%")
    ]
    assert "47.0%" in text
    assert "9.9%" in text


def test_a_comparison_names_the_strongest_attack(demo):
    found = demo["pruning"][0]["audit"]["findings"]
    for finding in found:
        finding["balanced_accuracy"] = None
    found[0]["balanced_accuracy"], found[1]["balanced_accuracy"] = 0.60, 0.70
    found[2]["tpr_at_fpr"]["0.01"] = {"tpr": 0.5, "low": 0.4, "high": 0.6, "resolved": True}
    found[3]["tpr_at_fpr"]["0.01"] = {"tpr": 0.9, "low": 0.8, "high": 1.0, "resolved": False}
    row = line(shown(terminal.comparison_table(demo["pruning"])), "none")
    assert "65.0%" in row
    assert "0.714 (rmia)" in row
    assert "50.0% [40.0, 60.0] (mentr)" in row


def test_a_comparison_says_what_is_not_known(demo):
    demo["pruning"][0]["audit"] = None
    for finding in demo["pruning"][1]["audit"]["findings"]:
        finding["nonmembers"] = 60
        finding["tpr_at_fpr"]["0.01"]["resolved"] = False
    text = shown(terminal.comparison_table(demo["pruning"]))
    assert line(text, "none").count("not audited") == 3
    assert "n/a (needs \u2265 100 nonmembers)" in line(text, "rmr")


def test_names_are_neither_markup_nor_escape_sequences(run):
    run["audit"]["findings"][0]["attack"] = "[red]x[/red]"
    run["audit"]["findings"][1]["attack"] = "\x1b[31mred"
    text = shown(terminal.audit_table(run["audit"]))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [40, 200])
def test_tables_fit_the_terminal(run, build, demo, width):
    for table in (
        terminal.audit_table(run["audit"]),
        terminal.prune_table(run["prune"]),
        terminal.protect_table(build),
        terminal.comparison_table(demo["pruning"]),
    ):
        assert max(map(len, shown(table, width=width).splitlines())) <= width


def wide(columns):
    return tables.table(
        "Attacks",
        ("row", *(f"attack {number}" for number in range(columns))),
        [
            (name, *(f"{name}{number}" for number in range(columns)))
            for name in ("base", "rsw", "swmr")
        ],
        note="A note.",
    )


@pytest.mark.parametrize("columns", [3, 18])
def test_a_table_too_wide_is_turned(columns):
    text = shown(terminal.fitting(wide(columns)), width=80)
    if columns == 3:
        assert line(text, "rsw").split() == ["rsw", "rsw0", "rsw1", "rsw2"]
    else:
        assert line(text, "row").split() == ["row", "base", "rsw", "swmr"]
        assert len([one for one in text.splitlines() if one.strip().startswith("attack")]) == 18
        assert next(one for one in text.splitlines() if "attack 7" in one).split()[-3:] == [
            "base7",
            "rsw7",
            "swmr7",
        ]
    assert "A note." in text


def test_a_table_too_wide_either_way_has_a_line_for_each_figure():
    text = shown(terminal.fitting(wide(18)), width=38)
    figures = [one.split() for one in text.splitlines() if "attack" in one]
    assert len(figures) == 54
    assert figures[0] == ["base", "attack", "0", "base0"]
    assert figures[1] == ["attack", "1", "base1"]
    assert all(len(one) <= 38 for one in text.splitlines())


def test_what_is_proven_stands_below_the_rounds(run):
    run["prune"]["guarantee"] = {"epsilon": 9994.6, "delta": 1e-5}
    text = " ".join(shown(terminal.prune_table(run["prune"])).split())
    assert "Proven: epsilon 9.99e+03 at delta 1e-05." in text
    run["prune"]["guarantee"] = {"epsilon": None, "delta": 1e-5}
    text = " ".join(shown(terminal.prune_table(run["prune"])).split())
    assert "Proven: epsilon unbounded" in text

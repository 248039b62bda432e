"""The tables, the plot and the page of a reproduced Table 1, from a document made by hand."""

import shlex

import pytest

from privet.errors import DataError
from privet.report import render_html
from privet.report.table1 import plot, table1_markdown, table1_tables


def figures(accuracy, *, auc=None, spread=0.01):
    found = {"accuracy": accuracy, "accuracy_sd": spread}
    found["accuracy_by_budget"] = {"1.5": accuracy + 0.05, "2": accuracy - 0.05}
    if auc is not None:
        found |= {"auc": auc, "auc_sd": spread, "auc_by_budget": {"1.5": auc, "2": auc}}
    return found


def row(method, speedup, *, nominal=None, paper=None, control=False, auc=None, spread=0.01):
    attackers = {
        "nn-sgd": figures(0.2, auc=auc, spread=spread),
        "forest": figures(0.25, auc=auc, spread=spread),
    }
    return {
        "method": method,
        "about": "units chosen by lot" if control else "",
        "control": control,
        "nominal_speedup": nominal,
        "speedup": speedup,
        "parameters": 401_000_000 // int(speedup),
        "macs": 400_000_000 // int(speedup),
        "attacked": 1631,
        "accuracy": 0.4912,
        "accuracy_sd": spread,
        "attack_accuracy": 0.2,
        "attack_accuracy_sd": spread,
        "attack_accuracy_by_budget": attackers["nn-sgd"]["accuracy_by_budget"],
        "attackers": attackers,
        "paper": paper,
    }


def document(*, auc=None, spread=0.01, seeds=(0, 1), **other):
    published = {"accuracy": 0.4586, "parameters": 7.01e6, "attack_accuracy": 0.2863}
    return {
        "dataset": "att",
        "scale": "small",
        "seeds": list(seeds),
        "budgets": [1.5, 2],
        "attacker": "nn-sgd",
        "attackers": {"nn-sgd": "the paper's", "forest": "trees"},
        "unprotected": {
            "nn-sgd": figures(0.47, auc=auc, spread=spread),
            "forest": figures(0.45, auc=auc, spread=spread),
        },
        "rows": [
            row("AttriGuard", 1.0, nominal=1, auc=auc, spread=spread),
            row("SP-ASPP", 57.2, nominal=50, paper=published, auc=auc, spread=spread),
            row("random units", 100.0, control=True, auc=auc, spread=spread),
        ],
        "notes": ["Forests see more than networks."],
        "settings": {"hidden": 4000},
        "versions": {"python": "3.11"},
        **other,
    }


def test_ours_stands_beside_the_published_figures() -> None:
    published, attackers, budgets = table1_tables(document())
    assert published.rows[1] == (
        "SP-ASPP (50)",
        "57.2x",
        "7,035,087",
        "7,010,000",
        "49.1% ± 1.0",
        "45.9%",
        "20.0% ± 1.0",
        "28.6%",
    )
    assert published.rows[2][3] == published.rows[2][5] == published.rows[2][7] == "n/a"
    assert "random units: units chosen by lot" in published.note
    assert attackers.rows[0] == ("no protection", "47.0% ± 1.0", "45.0% ± 1.0")
    assert attackers.rows[1] == ("AttriGuard (1)", "20.0% ± 1.0", "25.0% ± 1.0")
    assert budgets.rows[0] == ("AttriGuard (1)", "25.0%", "15.0%")


def test_auc_has_a_table_where_attackers_have_one() -> None:
    titles = [each.title for each in table1_tables(document(auc=0.61))]
    assert titles[2] == "AUC of every attacker"
    assert table1_tables(document(auc=0.61))[2].rows[1][1] == "0.610 ± 0.010"


def test_many_attackers_go_down_the_side() -> None:
    few = document()
    few["rows"] = few["rows"][:1]
    few["attackers"]["adaptive"] = "knows the defense"
    few["rows"][0]["attackers"]["adaptive"] = figures(0.4)
    attackers = table1_tables(few)[1]
    assert attackers.columns == ("attacker", "no protection", "AttriGuard (1)")
    assert attackers.rows[2] == ("adaptive", "n/a", "40.0% ± 1.0")


def test_a_single_seed_has_no_spread() -> None:
    published, *_ = table1_tables(document(spread=None, seeds=(7,)))
    assert published.rows[1][4] == "49.1%"
    assert "over 1 seed." in published.note


def test_the_markdown_page_names_the_command_that_made_it() -> None:
    page = table1_markdown(document(seeds=(3, 4)))
    command = page.split("`")[1]
    assert shlex.split(command)[3:] == (
        ["--dataset", "att", "--scale", "small", "--seeds", "2", "--first-seed", "3"]
    )
    assert page.count("## ") == 3


def test_the_page_shows_plot_tables_and_notes() -> None:
    page = render_html(document(), "table1")
    assert page.count("<svg") == 1
    assert "Forests see more than networks." in page
    assert "SP-ASPP (50)" in page


def test_the_plot_draws_a_line_a_budget_and_no_control() -> None:
    figure = plot(document(), identity="x")
    assert "of 2 defense models" in figure
    assert "budget 1.5" in figure
    assert "the paper&#x27;s mean" in figure or "the paper's mean" in figure


def test_a_document_of_another_shape_is_refused() -> None:
    broken = document()
    del broken["rows"][0]["speedup"]
    with pytest.raises(DataError, match="speedup"):
        render_html(broken, "table1")

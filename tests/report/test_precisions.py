"""A build whose tiers share speed-ups and differ in how their weights are stored."""

import copy
import re
from io import StringIO

import pytest
from rich.console import Console

from privet.report import cards, definitions, overall, render_html, tables, terminal


@pytest.fixture
def stored(build):
    """Three speed-ups, each as float32 and int8, the first as float16, too."""
    tiers = []
    for tier in build["tiers"]:
        names = (
            ("int8", "float32", "float16") if tier["asked_speedup"] == 50 else ("float32", "int8")
        )
        for name in names:
            made = copy.deepcopy(tier) | {"precision": name}
            if name != "float32":
                made["bundle"] = made["bundle"].replace(".", f"-{name}.")
                made["accuracy"] -= 0.03
            tiers.append(made)
    return build | {"tiers": tiers}


ORDER = ["50x int8", "50x", "50x float16", "100x", "100x int8", "200x", "200x int8"]


def labels(table):
    return [row[0] for row in table.rows]


def test_tables_name_the_precision_wherever_it_is_not_float32(stored):
    assert labels(tables.tiers(stored)) == labels(tables.by_budget(stored)) == ["unpruned", *ORDER]
    assert "float32 unless a tier says otherwise" in tables.tiers(stored).note
    console = Console(file=StringIO(), width=110, color_system=None)
    console.print(terminal.protect_table(stored))
    printed = console.file.getvalue().replace("\N{NO-BREAK SPACE}", " ")
    (row,) = [line for line in printed.splitlines() if line.split()[:2] == ["200x", "int8"]]
    assert "45.1%" in row


def test_a_build_of_before_there_were_precisions_reads_as_it_did(build):
    plain = copy.deepcopy(build)
    for tier in build["tiers"]:
        tier["precision"] = "float32"
    for table in (tables.tiers, tables.by_budget, definitions.definitions):
        assert table(build) == table(plain)
    assert labels(tables.tiers(build)) == ["unpruned", "50x", "100x", "200x"]
    assert "float32" not in tables.tiers(build).note
    assert overall.finest(plain) == plain["tiers"]
    assert overall.undrawn(plain) == ""


def test_the_worst_tier_is_named_with_its_precision(stored):
    worst = next(tier for tier in stored["tiers"] if tier["precision"] == "float16")
    worst["definitions"]["measured"]["m"] = 0.0300001
    worst["definitions"].update(failed=["m"], passed=False)
    row = definitions.definitions(stored).rows[0]
    assert row[-2:] == ("3.0% (50x float16)", "missed")


def test_plots_draw_a_line_a_speedup_and_the_page_tables_every_tier(stored):
    assert [overall.coarseness(tier) for tier in overall.finest(stored)] == [0, 0, 0]
    html = render_html(stored, "protect")
    titles = re.findall(r"<title id=[^>]*>([^<]+)</title>", html)
    assert len(titles) == 2
    assert all("3 tiers" in title for title in titles)
    assert html.count("only the tier of the finest precision is drawn") == 2
    assert all(re.search(rf">\s*{name}\s*<", html) for name in ORDER)


def test_without_float32_the_next_precision_is_drawn_under_its_name(stored):
    tiers = [tier for tier in stored["tiers"] if tier["precision"] != "float32"]
    chosen = overall.finest({"tiers": tiers})
    assert [tier["precision"] for tier in chosen] == ["float16", "int8", "int8"]
    # Only a tier that nothing finer stands for is missing from the plots.
    assert overall.undrawn({"tiers": tiers})
    assert overall.undrawn({"tiers": chosen}) == ""


@pytest.mark.parametrize("odd", [None, 8, ["int8"], "\x1b[31mred", "x" * 500])
def test_a_precision_of_any_kind_is_shown_and_not_obeyed(stored, odd):
    stored["tiers"][0]["precision"] = odd
    html = render_html(stored, "protect")
    assert "\x1b" not in html
    assert len(overall.finest(stored)) == 3


def test_a_card_says_its_precision(stored):
    assert ("precision", "int8") in cards.card_table(stored["tiers"][0]).rows

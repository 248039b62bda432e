from io import StringIO

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from privet.report import cards, terminal

KNOWN = [
    *("accuracy", "dev_accuracy", "attack_accuracy", "attack_accuracy_by_budget", "found"),
    *("parameters", "macs", "asked_speedup", "reached_speedup", "released", "dataset"),
    *("definitions", "measured", "bounds", "failed", "passed", "m", "r", "q", "n"),
]
# Every code point, lone surrogates too: JSON can hold them all.
TEXT = st.text(st.characters(exclude_categories=[]), max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**4000) | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=12)
        | st.dictionaries(st.sampled_from(KNOWN) | TEXT, inner, max_size=12)
    ),
    max_leaves=30,
)


def printed(card):
    console = Console(file=StringIO(), width=200, color_system=None)
    console.print(terminal.card_table(card))
    return console.file.getvalue().replace("\N{NO-BREAK SPACE}", " ")


def card_of(build):
    tier = {key: value for key, value in build["tiers"][0].items() if key != "bundle"}
    return {"dataset": "att", **tier, "released": True}


def test_a_card_reads_like_a_report(build):
    lines = [" ".join(line.split()) for line in printed(card_of(build)).splitlines()]
    for line in (
        "dataset att",
        "asked speedup 50x",
        "parameters 802,080",
        "macs 802,000",
        "accuracy 49.4%",
        "found 99.3%",
        "released yes",
        "attack accuracy by budget 1.5: 35.0%, 2: 31.0%, 3: 27.0%, 4: 23.0%, 5: 19.0%",
        "Definition 1 (as useful) met, accuracy differs from the unpruned model's by 0.3%, "
        "bound 2%",
        "Definition 2 (small) met, share of the unpruned model's parameters 2.0%, bound 5%",
    ):
        assert line in lines


def test_a_missed_definition_is_called_missed_whatever_else_the_card_says(build):
    card = card_of(build)
    card["definitions"]["measured"]["r"] = 0.05001
    assert "missed, share of the unpruned model's parameters 5.001%, bound 5%" in printed(card)
    junk = {f"entry {place}": place for place in range(1000)}
    text = printed(junk | card)
    assert "missed, share" in text
    assert f"{len(junk | card) - 1 - cards.MOST_ROWS} entries not shown" in text


def test_definitions_of_another_shape_are_shown_as_they_are():
    assert "m: 0.01, passed: yes" in printed({"definitions": {"m": 0.01, "passed": True}})
    assert "met" not in printed({"definitions": ["met", 3]}).replace("met, 3", "")


def test_what_is_not_the_figure_its_name_promises_is_shown_as_it_is():
    shown = {"accuracy": "[red]high[/red]", "found": 7, "parameters": [1, {"a": None}], "macs": 0.5}
    shown["seed"] = 10**5000
    assert [row[1] for row in cards.card_table(shown).rows] == [
        *("[red]high[/red]", "7", "1, {a: n/a}", "0.5", "n/a")
    ]
    assert "[red]high[/red]" in printed(shown)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from(KNOWN) | TEXT, JSON, max_size=12))
def test_any_json_object_is_shown_in_printable_cells_of_bounded_length(card):
    table = cards.card_table(card)
    for row in table.rows:
        assert all(cell.isprintable() and len(cell) <= cards.LONGEST_VALUE for cell in row)
    text = printed(card)
    assert all(mark.isprintable() or mark == "\n" for mark in text)


def test_deep_and_long_values_are_cut_short():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    card = {"deep": deep, "long": list(range(10**6)), "text": "x" * 10**6, "k" * 10**6: 1}
    rows = dict(cards.card_table(card).rows)
    assert rows["deep"] == "[[\N{HORIZONTAL ELLIPSIS}]]"
    assert rows["long"] == "0, 1, 2, 3, 4, 5, 6, 7, 999,992 more"
    assert len(rows["text"]) == cards.LONGEST_VALUE
    assert max(map(len, rows)) == cards.LONGEST_NAME
    # Freed from the outside in: freeing so deep a list at once recurses.
    while deep:
        deep = deep.pop()

"""A bundle's card as a table.

A card is whatever a bundle's maker wrote, and bundles come from strangers: any value may be of
any type, length and depth. What is known by its key is shown in its unit, the rest compactly.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from privet.report import definitions, wording
from privet.report.tables import Table, table

MOST_ROWS = 40
MOST_ITEMS = 8
MOST_DEPTH = 3
LONGEST_NAME = 40
LONGEST_VALUE = 300


def card_table(card: Mapping[str, Any]) -> Table:
    """Return a card, one entry a row and Definitions 1-3 last; raises on no JSON object."""
    entries = [(name, value) for name, value in card.items() if name != "definitions"]
    rows = [(_name(name), shown(name, value)) for name, value in entries[:MOST_ROWS]]
    if len(entries) > MOST_ROWS:
        rows.append(("and more", f"{len(entries) - MOST_ROWS:,} entries not shown"))
    if "definitions" in card:
        # After the cut: no number of other entries keeps the verdicts out of sight.
        rows += _definitions(card["definitions"])
    return table("The bundle's card, as its maker states it", ("entry", "value"), rows, labels=2)


def shown(name: str, value: object) -> str:
    """Return the value of the card's entry ``name``, at most `LONGEST_VALUE` characters."""
    if name == "attack_accuracy_by_budget" and isinstance(value, Mapping):
        return _clipped(_listed(value.items(), lambda part: _fraction(part, depth=1)))
    say = _SAY.get(name)
    return _clipped(compact(value) if say is None else say(value))


def compact(value: object, *, depth: int = 0) -> str:
    """Return any JSON value on one line, long and deep ones cut short."""
    if value is None:
        return wording.MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _plain(value)
    if not isinstance(value, (Mapping, list, tuple)):
        return _clipped(wording.printable(str(value)[: LONGEST_VALUE + 1]))
    if depth == MOST_DEPTH:
        return "\N{HORIZONTAL ELLIPSIS}"
    inner: Iterable[tuple[object, object]]
    inner = value.items() if isinstance(value, Mapping) else ((None, part) for part in value)
    listed = _listed(inner, lambda part: compact(part, depth=depth + 1))
    if depth == 0:
        return listed or "none"
    return f"{{{listed}}}" if isinstance(value, Mapping) else f"[{listed}]"


def _listed(items: Iterable[tuple[object, object]], say: Callable[[object], str]) -> str:
    items = list(items)
    parts = [
        say(part) if key is None else f"{_name(key)}: {say(part)}"
        for key, part in items[:MOST_ITEMS]
    ]
    if len(items) > MOST_ITEMS:
        parts.append(f"{len(items) - MOST_ITEMS:,} more")
    return ", ".join(parts)


def _definitions(checked: object) -> list[tuple[str, str]]:
    if not isinstance(checked, Mapping) or not {"measured", "bounds"} <= set(checked):
        return [("definitions", shown("definitions", checked))]
    return [(name, _clipped(sentence)) for name, sentence in definitions.sentences(checked)]


def _plain(value: float) -> str:
    number = wording.as_number(value)
    if number is None:
        return wording.MISSING
    # Whole numbers, such as a seed, stay exact; thousands marks are for known counts only.
    return str(value) if isinstance(value, int) and abs(value) < 10**18 else f"{number:.6g}"


def _fraction(value: object, *, depth: int = 0) -> str:
    number = wording.as_number(value)
    inside = number is not None and 0 <= number <= 1
    return wording.percent(number) if inside else compact(value, depth=depth)


def _count(value: object) -> str:
    number = wording.as_number(value)
    whole = number is not None and number.is_integer() and abs(number) < 1e18
    return wording.count(number) if whole else compact(value)


def _speedup(value: object) -> str:
    number = wording.as_number(value)
    inside = number is not None and 0 <= number < 1e9
    return wording.speedup(number) if inside else compact(value)


_SAY: dict[str, Callable[[object], str]] = {
    "accuracy": _fraction,
    "dev_accuracy": _fraction,
    "attack_accuracy": _fraction,
    "found": _fraction,
    "reached_targets": _fraction,
    "parameters": _count,
    "macs": _count,
    "asked_speedup": _speedup,
    "reached_speedup": _speedup,
}


def _name(key: object) -> str:
    return _clipped(str(key)[: LONGEST_NAME + 1].replace("_", " "), longest=LONGEST_NAME)


def _clipped(text: str, *, longest: int = LONGEST_VALUE) -> str:
    text = wording.printable(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"

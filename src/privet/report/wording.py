"""Single numbers in words, the same in the terminal and on the page.

All rates come in as fractions. What is not known is shown as ``n/a``, never as zero.
"""

import math
from collections.abc import Mapping
from typing import Any

from privet.errors import DataError

MISSING = "n/a"


def printable(value: object) -> str:
    """Return ``value`` as text in which control characters cannot act.

    Documents may come from strangers: escape sequences would reach the terminal, and lone
    surrogates or NUL would make a page that no parser reads. Each becomes U+FFFD.
    """
    return "".join(
        mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in str(value)
    )


def as_number(value: object) -> float | None:
    """Return ``value`` as a float if it is a number that a float can hold; None for the rest."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        known = float(value)
    except OverflowError:
        return None
    return known if math.isfinite(known) else None


def finite(value: Any) -> float | None:
    """Return ``value`` as a float; None for null, NaN and infinities; `DataError` for the rest."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        shown = printable(value)[:40]
        raise DataError(f"expected a number in the document, got {shown!r}; write the JSON again")
    return as_number(value)


def percent(value: Any) -> str:
    """Return a fraction as a percentage with one decimal, e.g. ``58.8%``."""
    number = finite(value)
    return MISSING if number is None else f"{number:.1%}"


def level(value: float) -> str:
    """Return a chosen fraction, such as an FPR, without padding: ``10%``, ``0.1%``."""
    return f"{100 * value:.6g}%"


def against(value: float, bound: float | None) -> str:
    """Return a fraction beside its bound (see `level`), never rounded across or onto it.

    One decimal, more where needed: 0.1001 is ``10.01%`` against a bound of 10%.
    """
    if bound is None:
        return percent(value)
    shown = level(bound)
    limit = float(shown[:-1])
    for digits in range(1, 7):
        text = f"{value:.{digits}%}"
        if (float(text[:-1]) > limit) == (value > bound):
            return text
    return f"just {'above' if value > bound else 'below'} {shown}"


def decimal(value: Any, *, places: int = 3) -> str:
    """Return a number with fixed decimals, e.g. ``0.612``."""
    number = finite(value)
    return MISSING if number is None else f"{number:.{places}f}"


def count(value: Any) -> str:
    """Return a whole number with its thousands marked, e.g. ``7,012,345``."""
    number = finite(value)
    return MISSING if number is None else f"{number:,.0f}"


def speedup(value: Any) -> str:
    """Return a speed-up, e.g. ``57.2x`` or ``50x``."""
    number = finite(value)
    return MISSING if number is None else f"{number:,.1f}x".replace(".0x", "x")


def tier(entry: Mapping[str, Any]) -> str:
    """Return what a tier of a protection build is called: ``50x``, or ``50x int8``.

    That is the speed-up it was asked for, and the precision of its weights where that is not
    float32, which all had before there were others.
    """
    name, precision = speedup(entry["asked_speedup"]), entry.get("precision")
    return name if precision in (None, "float32") else f"{name} {precision}"


def size(value: Any) -> str:
    """Return bytes in decimal units with three digits, e.g. ``28.1 kB``."""
    number = finite(value)
    if number is None:
        return MISSING
    for unit in ("B", "kB", "MB"):
        # 999.5 would round up to the four digits of the next unit.
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} GB" if number < 999.5 else f"{number:,.0f} GB"


def proof(guarantee: Mapping[str, Any]) -> str:
    """Return what a differentially private run proves: ``epsilon 9.99e+03 at delta 1e-05``."""
    epsilon = guarantee.get("epsilon")
    amount = "unbounded" if epsilon is None else f"{epsilon:.3g}"
    return f"epsilon {amount} at delta {guarantee['delta']:.2g}"


def duration(value: Any) -> str:
    """Return seconds as ``0.4 s``, ``42 s``, ``3 min 12 s`` or ``2 h 5 min``."""
    number = finite(value)
    if number is None:
        return MISSING
    if number < 9.95:
        return f"{number:.1f} s"
    seconds = round(number)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def resolved(entry: Mapping[str, Any] | None) -> bool:
    """Say whether a TPR entry holds a figure that its nonmembers can support."""
    return entry is not None and entry.get("tpr") is not None and entry.get("resolved", True)


def interval(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return a TPR's 95 % interval, the one that counts the threshold's uncertainty in.

    Documents from before there was one have Clopper-Pearson's alone; None where there is none.
    """
    return _ends(entry, "band_low", "band_high") or _ends(entry, "low", "high")


def auc_interval(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return an AUC's 95 % interval; None where there is none."""
    return _ends(entry, "auc_low", "auc_high")


def _ends(entry: Mapping[str, Any], *names: str) -> tuple[float, float] | None:
    low, high = (finite(entry.get(name)) for name in names)
    return None if low is None or high is None else (low, high)


def rate(entry: Mapping[str, Any] | None, *, fpr: float, nonmembers: Any) -> str:
    """Return a TPR with its `interval` in brackets, in percent: ``4.2% [2.1, 7.4]``.

    An FPR below one in ``nonmembers`` cannot be measured; the cell then says how many nonmembers
    it takes (``1 / fpr``, the least that could ever do) in place of a figure.
    """
    if entry is None:
        return MISSING
    if not resolved(entry):
        return f"{MISSING} ({_lacking(fpr, nonmembers)})"
    ends = interval(entry)
    if ends is None:
        return percent(entry["tpr"])
    return f"{percent(entry['tpr'])} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def unresolved(fpr: float, *, nonmembers: Any) -> str:
    """Return a sentence on an FPR that no attack resolves, among at most so many nonmembers."""
    have = f", there are {count(nonmembers)}" if finite(nonmembers) is not None else ""
    return f"TPR at {level(fpr)} FPR: {_lacking(fpr, nonmembers)}{have}."


def _lacking(fpr: float, nonmembers: Any) -> str:
    needed = math.ceil(1 / fpr - 1e-9)
    have = finite(nonmembers)
    if have is not None and have >= needed:
        return "not resolved"
    return f"needs \N{GREATER-THAN OR EQUAL TO} {needed:,} nonmembers"


def auc(entry: Mapping[str, Any]) -> str:
    """Return an AUC with its interval in brackets where it has one: ``0.612 [0.59, 0.63]``."""
    ends = auc_interval(entry)
    return decimal(entry["auc"]) + ("" if ends is None else f" [{ends[0]:.2f}, {ends[1]:.2f}]")

"""Verdicts: conditions held against an audit. What cannot be judged does not pass."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as Xml

from privet.gate.audits import Document, Leak, Rate, checked, leaks
from privet.gate.conditions import KEPT, Condition

Measured = tuple[float | None, str]
"""A figure, None where it cannot be judged, and what is to be said about it."""


@dataclass(frozen=True)
class Outcome:
    """How one condition fared: the figure (None where it cannot be judged), and why."""

    condition: Condition
    value: float | None
    reason: str

    @property
    def passed(self) -> bool:
        """Whether the condition is known to hold."""
        return self.value is not None and self.condition.holds(self.value)

    def __str__(self) -> str:
        return f"{'ok' if self.passed else 'FAIL'} {self.condition}: {self.reason}"

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as the command prints it."""
        return {
            "condition": str(self.condition),
            "name": self.condition.name,
            "bound": self.condition.bound,
            "value": self.value,
            "passed": self.passed,
            "reason": self.reason,
        }


def judge(conditions: Sequence[Condition], audit: Document) -> list[Outcome]:
    """Hold the figures of an audit against conditions.

    Parameters
    ----------
    audit
        ``findings``, one an attack, and the audited model's ``test_accuracy``, ``train_accuracy``
        and ``sparsity`` where they are known.

    Raises
    ------
    DataError
        When the document lacks a part, or holds anything but a fraction where one belongs.
    """
    found = leaks(audit)
    return [
        Outcome(each, *(_kept(each, audit) if each.figure in KEPT else _leaked(each, found)))
        for each in conditions
    ]


def _kept(condition: Condition, audit: Document) -> Measured:
    """Return a figure of the model itself."""
    held = {"accuracy": ("test_accuracy",), "gap": ("train_accuracy", "test_accuracy")}
    keys = held.get(condition.figure, (condition.figure,))
    missing = [key.replace("_", " ") for key in keys if audit.get(key) is None]
    if missing:
        return None, f"the audit does not tell the model's {missing[0]}"
    values = [checked(audit[key], f"the model's {key.replace('_', ' ')}") for key in keys]
    value = values[0] - values[1] if condition.figure == "gap" else values[0]
    return value, _shown(value, condition.bound)


def _leaked(condition: Condition, found: Sequence[Leak]) -> Measured:
    """Return the highest of what the attacks in question found."""
    asked = [leak for leak in found if condition.attack in (None, leak.attack)]
    if not asked:
        known = ", ".join(leak.attack for leak in found)
        return None, f"the audit holds no attack called {condition.attack}, only {known}"
    if condition.fpr is not None:
        return _at_fpr(condition, asked, condition.fpr)
    pairs = [(getattr(leak, condition.figure), leak.attack) for leak in asked]
    values = [(value, attack) for value, attack in pairs if value is not None]
    if not values:
        return None, f"{pairs[0][1]} only ranks and makes no decisions that could be right"
    value, attack = max(values, key=lambda pair: pair[0])
    return value, f"{attack} reaches {_shown(value, condition.bound)}{_of(values, condition)}"


def _at_fpr(condition: Condition, asked: Sequence[Leak], fpr: float) -> Measured:
    """Return the highest TPR, or upper end of an interval, at one FPR.

    The highest of all is unknown where a single attack's is.
    """
    level, field = f"{100 * fpr:.6g}%", condition.figure.removeprefix("tpr_")
    rates: list[tuple[float, Rate, Leak]] = []
    for leak in asked:
        rate = leak.rates.get(fpr)
        value = None if rate is None else getattr(rate, field)
        if rate is None or value is None:
            return None, _unknown(leak, fpr, level)
        rates.append((value, rate, leak))
    value, rate, leak = max(rates, key=lambda each: each[0])
    shown, of = _shown(value, condition.bound, percent=True), f"of {leak.members:,} members"
    if condition.figure == "tpr":
        low, high = rate.interval
        found = f"finds {shown} [{100 * low:.1f}, {100 * high:.1f}] {of}"
    elif condition.figure == "tpr_high":
        found = f"may find up to {shown} {of} if its threshold is right"
    else:
        found = f"may find up to {shown} {of}"
    return value, f"{leak.attack} {found}{_of(rates, condition)}"


def _unknown(leak: Leak, fpr: float, level: str) -> str:
    """Say why an attack has no figure at an FPR."""
    if fpr not in leak.rates:
        known = ", ".join(f"{100 * each:.6g}%" for each in leak.rates) or "none"
        return f"{leak.attack} was not judged at {level} FPR; its levels are: {known}"
    if leak.rates[fpr] is not None:
        return f"the audit gives no band for {leak.attack}; ask for tpr_high, or audit again"
    least = math.ceil(1 / fpr - 1e-9)
    takes = f"; it takes {least:,}" if leak.nonmembers < least else ""
    return f"{level} FPR cannot be resolved with {leak.nonmembers:,} nonmembers{takes}"


def _of(among: Sequence[object], condition: Condition) -> str:
    if condition.attack is not None:
        return ""
    return f" (highest of {len(among)} attacks)" if len(among) > 1 else " (the only attack)"


def _shown(value: float, bound: float, *, percent: bool = False) -> str:
    """Return a figure with three decimals (a percentage with one), more where those mislead.

    What is shown stands on the same side of the bound as the figure itself.
    """

    def side(number: float) -> int:
        return (number > bound) - (number < bound)

    for places in range(3, 17):
        if side(round(value, places)) == side(value):
            return f"{value:.{places - 2}%}" if percent else f"{value:.{places}f}"
    return repr(value)


def junit_xml(outcomes: Sequence[Outcome]) -> bytes:
    """Return the outcomes as a JUnit report, one test case a condition."""
    failed = sum(not outcome.passed for outcome in outcomes)
    counts = {"tests": str(len(outcomes)), "failures": str(failed), "errors": "0", "time": "0"}
    root = Xml.Element("testsuites", counts)
    suite = Xml.SubElement(root, "testsuite", {"name": "privet gate", **counts})
    for outcome in outcomes:
        about = {"classname": "privet gate", "name": str(outcome.condition), "time": "0"}
        case = Xml.SubElement(suite, "testcase", about)
        if outcome.passed:
            Xml.SubElement(case, "system-out").text = outcome.reason
        else:
            failure = Xml.SubElement(case, "failure", {"message": outcome.reason, "type": "gate"})
            failure.text = str(outcome)
    Xml.indent(root)
    return bytes(Xml.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"

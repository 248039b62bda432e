"""SP-ASPP's Definitions 1-3 (section 3.2) in words: what was measured, the bound, the verdict.

The figures are those that the build measured and checked each tier with; nothing is worked out
again here, so a page and its JSON cannot disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from privet.report import overall, wording
from privet.report.tables import Document, Table, table

MET, MISSED, UNMEASURED, UNBOUNDED = "met", "missed", "not measured", "no bound"


@dataclass(frozen=True)
class Bound:
    """One bounded figure: its symbol, the definition it belongs to, and what it measures."""

    symbol: str
    name: str
    what: str


BOUNDS = (
    Bound("m", "Definition 1 (as useful)", "accuracy differs from the unpruned model's by"),
    Bound("r", "Definition 2 (small)", "share of the unpruned model's parameters"),
    Bound("q", "Definition 3 (as protective)", "attack accuracy"),
    Bound("n", "Definition 3 (as protective)", "attack accuracy differs from unpruned by"),
)


@dataclass(frozen=True)
class Check:
    """One figure held against its bound, both fractions; None where not stated as a number.

    ``failed`` is whether the document itself lists the figure as failed.
    """

    measured: float | None
    bound: float | None
    failed: bool

    @property
    def verdict(self) -> str:
        """One of ``MET``, ``MISSED``, ``UNMEASURED`` and ``UNBOUNDED``."""
        if self.failed:
            return MISSED
        if self.measured is None:
            return UNMEASURED
        if self.bound is None:
            return UNBOUNDED
        return MISSED if self.measured > self.bound else MET

    @property
    def figure(self) -> str:
        """The measured figure, with the digits it takes to see on which side of the bound it is."""
        if self.measured is None:
            return UNMEASURED
        return wording.against(self.measured, self.bound)


def check(checked: object, symbol: str) -> Check:
    """Return one figure of a tier's ``definitions``, which may be anything: see `Check`."""
    failed = _part(checked, "failed")
    return Check(
        wording.as_number(_part(_part(checked, "measured"), symbol)),
        wording.as_number(_part(_part(checked, "bounds"), symbol)),
        isinstance(failed, list) and symbol in failed,
    )


def passed(checked: object) -> bool | None:
    """Say whether a tier's ``definitions`` hold; None when they do not say.

    They hold when stated as passed, unless a figure misses its bound all the same.
    """
    stated = _part(checked, "passed")
    if any(check(checked, bound.symbol).verdict == MISSED for bound in BOUNDS):
        return False
    return stated if isinstance(stated, bool) else None


def sentences(checked: object) -> list[tuple[str, str]]:
    """Return a tier's ``definitions`` as pairs: the definition, and how it was met or missed."""
    found = []
    for bound in BOUNDS:
        one = check(checked, bound.symbol)
        limit = "no bound stated" if one.bound is None else f"bound {wording.level(one.bound)}"
        verdict = "" if one.verdict in (UNMEASURED, UNBOUNDED) else f"{one.verdict}, "
        found.append((bound.name, f"{verdict}{bound.what} {one.figure}, {limit}"))
    return found


def definitions(build: Document) -> Table:
    """Return what Definitions 1-3 bound, the bound, the worst tier, and the verdict on all."""
    shared = overall.different_users(build)
    return table(
        "Definitions 1-3",
        ("definition", "what is bounded", "bound", "worst tier", "verdict"),
        [_row(bound, build) for bound in BOUNDS],
        note=f"{shared} The difference n is between the same users for both." if shared else "",
        labels=2,
    )


def verdict(build: Document) -> str:
    """Return in a sentence whether a build passed, and if not, why."""
    stated = build["definitions"].get("passed")
    outside = any(passed(tier.get("definitions")) is False for tier in build["tiers"])
    if stated is True and outside:
        return "The build is stated as passed, yet at least one tier is outside the bounds below."
    if stated is True:
        return "The build passed: each tier is within the bounds below."
    if stated is not False:
        return "Whether the build passed is not stated."
    reasons = []
    if outside:
        reasons.append("at least one tier is outside the bounds below")
    if any(tier.get("released") is False for tier in build["tiers"]):
        reasons.append("at least one tier was refused, because it hardly ever finds noise")
    return f"The build did not pass: {'; '.join(reasons) or 'it does not say why'}."


def _row(bound: Bound, build: Document) -> tuple[str, ...]:
    limit = wording.as_number(build["definitions"].get(bound.symbol))
    checks = []
    for tier in build["tiers"]:
        one = check(tier.get("definitions"), bound.symbol)
        checks.append((Check(one.measured, limit, one.failed), tier))
    verdicts = {one.verdict for one, _ in checks} or {UNMEASURED}
    # One missed tier decides; next, what is not known of a tier is no reason to call it met.
    said = next(word for word in (MISSED, UNMEASURED, UNBOUNDED, MET) if word in verdicts)
    known = [(one.measured, one, tier) for one, tier in checks if one.measured is not None]
    worst = UNMEASURED
    if known:
        _, one, tier = max(known, key=lambda entry: entry[0])
        worst = f"{one.figure} ({wording.tier(tier)})"
    shown = wording.MISSING if limit is None else wording.level(limit)
    return (bound.name, bound.what, f"{bound.symbol} = {shown}", worst, said)


def _part(value: object, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None

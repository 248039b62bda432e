"""What a list of audit findings says as a whole: averages and the strongest attack."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from privet.report import wording

PRECISIONS = ("float32", "float16", "int8")
"""Those of a tier's weights, from the finest down."""

Findings = Sequence[Mapping[str, Any]]


def mean_balanced_accuracy(findings: Findings) -> float | None:
    """Return the mean over the attacks that have a decision rule; None when none has."""
    values = [wording.finite(finding.get("balanced_accuracy")) for finding in findings]
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def strongest(findings: Findings, measure: str) -> Mapping[str, Any] | None:
    """Return the finding with the highest ``measure``, the first among equals; None if all null.

    ``measure`` is ``"auc"`` or ``"balanced_accuracy"``.
    """
    known = [finding for finding in findings if wording.finite(finding.get(measure)) is not None]
    return max(known, key=lambda finding: float(finding[measure]), default=None)


def strongest_at(findings: Findings, fpr: str) -> Mapping[str, Any] | None:
    """Return the finding with the highest TPR at the FPR named by the key ``fpr``.

    Findings whose nonmembers cannot resolve that FPR do not compete; None when none can.
    """
    known = [finding for finding in findings if wording.resolved(finding["tpr_at_fpr"].get(fpr))]
    return max(known, key=lambda finding: float(finding["tpr_at_fpr"][fpr]["tpr"]), default=None)


def groups(finding: Mapping[str, Any], kind: str) -> Sequence[Mapping[str, Any]]:
    """Return a finding's entries on groups of one kind, none in a document from before them."""
    found: Sequence[Mapping[str, Any]] = (finding.get("breakdowns") or {}).get(kind) or ()
    return found


def levels(findings: Findings) -> list[str]:
    """Return the keys of all FPRs in the findings, from the highest FPR to the lowest."""
    keys = {key for finding in findings for key in finding["tpr_at_fpr"]}
    return sorted(keys, key=float, reverse=True)


def mean_over_budgets(by_budget: Mapping[str, Any]) -> float | None:
    """Return the mean attack accuracy over the budgets; None without any."""
    values = [wording.finite(value) for value in by_budget.values()]
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def budgets(build: Mapping[str, Any]) -> list[str]:
    """Return the keys of all budgets of a protection build's tiers, from the lowest up."""
    keys = {key for tier in build["tiers"] for key in tier.get("attack_accuracy_by_budget") or {}}
    return sorted(keys, key=float)


def finest(build: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a protection build's tiers, of each speed-up the one of the finest precision only.

    Figures hang on the speed-up far more than on the precision, so these stand for all in a plot.
    """
    best: dict[float | None, Mapping[str, Any]] = {}
    for tier in build["tiers"]:
        speedup = wording.finite(tier["asked_speedup"])
        if speedup not in best or coarseness(tier) < coarseness(best[speedup]):
            best[speedup] = tier
    return list(best.values())


def undrawn(build: Mapping[str, Any]) -> str:
    """Return a sentence on the tiers that `finest` leaves out; or ``""`` where there are none."""
    left = len(build["tiers"]) - len(finest(build))
    if not left:
        return ""
    return "Of each speed-up, only the tier of the finest precision is drawn; the table has all."


def coarseness(tier: Mapping[str, Any]) -> int:
    """Return the place of a tier's precision in `PRECISIONS`; 0 for one that is not stated."""
    precision = tier.get("precision", PRECISIONS[0])
    return PRECISIONS.index(precision) if precision in PRECISIONS else 0


def fewer_users(build: Mapping[str, Any]) -> str:
    """Return on which users the unpruned model was attacked, where not on all; else ``""``.

    For example "the first 400 of 1,631 users", or "the first 400 users" in a document that does
    not state on how many its tiers were attacked.
    """
    few, every = build.get("base_attacked_users"), build.get("attacked_users")
    if few is None or few == every:
        return ""
    total = "" if every is None else f" of {wording.count(every)}"
    return f"the first {wording.count(few)}{total} users"


def different_users(build: Mapping[str, Any]) -> str:
    """Return a sentence on what `fewer_users` means for a comparison with the tiers; or ``""``."""
    few = fewer_users(build)
    if not few:
        return ""
    return f"The unpruned model was attacked on {few} only, the tiers on all users."

"""Who is exposed, where averages hide it: the most exposed members, classes, planted canaries.

Audits from before findings had breakdowns are fine: what they do not hold is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from privet.groups import CANARIES, CLASS
from privet.report import overall, wording
from privet.report.tables import Document, Table, rated, table

CALIBRATED = frozenset({"calibrated", "lira", "lira-offline", "rmia", "rmia-offline"})
"""The attacks that judge each sample by what other models answer on that very sample."""

MOST_SAMPLES = 15
MOST_CLASSES = 10
AGREED_FPR = 0.01


def most_exposed(audit: Document) -> Table | None:
    """Return the members that attacks are surest of; None where no attack names any."""
    best: dict[Any, tuple[float, Document]] = {}
    agreed: dict[Any, int] = {}
    for finding in audit["findings"]:
        for entry in finding.get("most_exposed") or ():
            sample, fpr = entry["sample"], wording.finite(entry["fpr"])
            if fpr is None:
                continue
            if sample not in best or fpr < best[sample][0]:
                best[sample] = fpr, finding
            # A list full of ties, such as that of the correctness gap, names no one.
            agreed[sample] = agreed.get(sample, 0) + (fpr <= AGREED_FPR)
    if not best:
        return None
    ranked = sorted(best, key=lambda sample: (best[sample][0], -agreed[sample]))[:MOST_SAMPLES]
    return table(
        "Most exposed members",
        ("sample", "nonmembers as suspect", "to the attack", "attacks that agree"),
        [
            (sample, _suspects(*best[sample]), best[sample][1]["attack"], agreed[sample])
            for sample in ranked
        ],
        note="Samples are called by their row in the audited data. As suspect: nonmembers that "
        "score at least as high. Attacks that agree: how many have the sample among their ten "
        "highest-scoring members, with at most 1% of nonmembers as suspect. Some member tops each "
        "list even under guessing; look for those that several attacks agree on.",
    )


def _suspects(fpr: float, finding: Document) -> str:
    every = wording.finite(finding["nonmembers"])
    if every is None:
        return wording.percent(fpr)
    return f"{wording.count(fpr * every)} of {wording.count(every)}"


def worst_classes(audit: Document) -> Table | None:
    """Return the classes that the strongest attack finds most in; None without classes."""
    divided = [finding for finding in audit["findings"] if overall.groups(finding, CLASS)]
    finding = overall.strongest(divided, "auc")
    if finding is None:
        return None
    known = overall.groups(finding, CLASS)
    entries = [entry for entry in known if wording.finite(entry["auc"]) is not None]
    ranked = sorted(entries, key=lambda entry: -float(entry["auc"]))[:MOST_CLASSES]
    return table(
        "Most exposed classes",
        ("class", "members", "nonmembers", "AUC"),
        [
            (
                entry["name"],
                wording.count(entry["members"]),
                wording.count(entry["nonmembers"]),
                wording.auc(entry),
            )
            for entry in ranked
        ],
        note=f"{len(ranked)} of {len(entries)} classes, by the AUC of {finding['attack']}, the "
        f"attack with the highest AUC over all classes: {wording.auc(finding)}. Brackets: 95% "
        "interval. Classes are small: some come out on top by chance.",
    )


def canaries(audit: Document) -> Table | None:
    """Return the attacks on the planted canaries, the strongest first; None without canaries."""
    found = _on_canaries(audit)
    if not found:
        return None
    rates = rated(found)
    return table(
        f"Attacks on canaries: {wording.count(found[0]['members'])} planted, "
        f"{wording.count(found[0]['nonmembers'])} held out",
        ("attack", "AUC", *rates.columns),
        [
            (finding["attack"], wording.auc(finding), *cells)
            for finding, cells in zip(found, rates.cells, strict=True)
        ],
        note=f"Guessing: AUC 0.500, TPR equal to FPR. {rates.note}",
    )


def canary_verdict(audit: Document) -> str:
    """Return a sentence on the strongest attack on the canaries; ``""`` without canaries."""
    found = _on_canaries(audit)
    if not found:
        return ""
    planted = f"the {wording.count(found[0]['members'])} planted canaries"
    # Canaries are few: at an FPR that allows for fewer than ten nonmembers, no figure is firm.
    firm = (key for key in overall.levels(found) if float(key) * found[0]["nonmembers"] >= 10)
    key = min(firm, key=float, default=None)
    best = None if key is None else overall.strongest_at(found, key)
    if key is None or best is None:
        return f"On {planted}, {found[0]['attack']} has an AUC of {wording.auc(found[0])}."
    return f"Of {planted}, {best['attack']} finds {_found(best, key)}."


def _on_canaries(audit: Document) -> list[Document]:
    """Return the findings on canaries alone, from the highest AUC down."""
    found = [
        {"attack": finding["attack"], **entry}
        for finding in audit["findings"]
        for entry in overall.groups(finding, CANARIES)[:1]
        if wording.finite(entry["auc"]) is not None
    ]
    return sorted(found, key=lambda finding: -float(finding["auc"]))


@dataclass(frozen=True)
class _Strongest:
    attack: str
    words: str
    interval: tuple[float, float]


def flattering(findings: Sequence[Document]) -> str:
    """Return a sentence where a calibrated attack finds clearly more than the others; or ``""``.

    Clearly: its interval, of the TPR at 1 % FPR or else of the AUC, lies wholly above theirs.
    """
    ours = [finding for finding in findings if finding["attack"] in CALIBRATED]
    pooled = [finding for finding in findings if finding["attack"] not in CALIBRATED]
    for strongest in (_strongest_at_low, _strongest_auc):
        best, other = strongest(ours), strongest(pooled)
        if best and other and best.interval[0] > other.interval[1]:
            return (
                f"Averages flatter: {best.attack}, which judges each sample by what other models "
                f"answer on it, {best.words}; the strongest attack that treats all samples "
                f"alike, {other.attack}, {other.words}."
            )
    return ""


def _strongest_at_low(findings: Sequence[Document]) -> _Strongest | None:
    best = overall.strongest_at(findings, "0.01")
    ends = None if best is None else wording.interval(best["tpr_at_fpr"]["0.01"])
    if best is None or ends is None:
        return None
    return _Strongest(str(best["attack"]), f"finds {_found(best, '0.01')}", ends)


def _strongest_auc(findings: Sequence[Document]) -> _Strongest | None:
    best = overall.strongest(findings, "auc")
    ends = None if best is None else wording.auc_interval(best)
    if best is None or ends is None:
        return None
    return _Strongest(str(best["attack"]), f"has an AUC of {wording.auc(best)}", ends)


def _found(finding: Document, key: str) -> str:
    fpr = float(key)
    rate = wording.rate(finding["tpr_at_fpr"][key], fpr=fpr, nonmembers=finding["nonmembers"])
    return f"{rate} at {wording.level(fpr)} FPR"

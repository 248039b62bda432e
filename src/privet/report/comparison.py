"""Defenses side by side: what each keeps, what leaks, and what their averages would hide."""

from collections.abc import Sequence

from privet.report import overall, wording
from privet.report.tables import Document, Table, table


def comparison(pruning: Sequence[Document]) -> Table:
    """Return defenses side by side, one a row.

    The strongest AUC and the TPR at 1 % FPR are each the highest over the attacks, so they may
    belong to two different attacks; the interval is that attack's own.
    """
    return table(
        "Defenses compared",
        (
            "defense",
            "test accuracy",
            "mean balanced accuracy",
            "strongest AUC",
            "strongest TPR at 1% FPR",
        ),
        [_compared(entry["prune"], entry.get("audit")) for entry in pruning],
        note="Mean over the attacks with a decision rule; guessing is 50.0%. Strongest: the "
        "highest over all attacks, named in parentheses. Brackets: 95% interval, in percent.",
    )


def exposed(pruning: Sequence[Document]) -> str:
    """Return a sentence on defenses under which clearly more members are found; ``""`` if none.

    Clearly: the strongest TPR at 1 % FPR has an interval that lies wholly above the one without
    a defense.
    """
    audited = [entry for entry in pruning if entry.get("audit") is not None]
    plain = next((entry for entry in audited if entry["prune"]["defense"] == "none"), None)
    if plain is None or (before := _found_at_low(plain)) is None:
        return ""
    worse = []
    for entry in audited:
        after = _found_at_low(entry)
        if after is not None and after[1] > before[2]:
            worse.append((entry, after[0]))
    if not worse:
        return ""
    names = " and ".join(
        f"{entry['prune']['defense']} ({wording.percent(tpr)})" for entry, tpr in worse
    )
    sentence = (
        f"Under {names} an attack finds more members at 1% FPR than under no defense "
        f"({wording.percent(before[0])})"
    )
    means = [overall.mean_balanced_accuracy(one["audit"]["findings"]) for one, _ in worse]
    least = overall.mean_balanced_accuracy(plain["audit"]["findings"])
    hidden = least is not None and all(mean is not None and mean <= least for mean in means)
    return f"{sentence}: averages alone would hide it." if hidden else f"{sentence}."


def _found_at_low(entry: Document) -> tuple[float, float, float] | None:
    """Return the strongest TPR at 1 % FPR of an audited defense and its interval, if any."""
    finding = overall.strongest_at(entry["audit"]["findings"], "0.01")
    if finding is None:
        return None
    rate = finding["tpr_at_fpr"]["0.01"]
    ends = wording.interval(rate)
    return None if ends is None else (float(rate["tpr"]), *ends)


def _compared(run: Document, audit: Document | None) -> tuple[str, ...]:
    start = (str(run["defense"]), wording.percent(run["test_accuracy"]))
    if audit is None:
        return (*start, "not audited", "not audited", "not audited")
    found = audit["findings"]
    ranked, low = overall.strongest(found, "auc"), overall.strongest_at(found, "0.01")
    auc = wording.MISSING if ranked is None else _named(wording.decimal(ranked["auc"]), ranked)
    if low is None:
        # No attack resolves it: any finding's refusal says why.
        shown = next((one for one in found if "0.01" in one["tpr_at_fpr"]), None)
        rate = wording.MISSING if shown is None else _rate(shown)
    else:
        rate = _named(_rate(low), low)
    return (*start, wording.percent(overall.mean_balanced_accuracy(found)), auc, rate)


def _rate(finding: Document) -> str:
    entry = finding["tpr_at_fpr"]["0.01"]
    return wording.rate(entry, fpr=0.01, nonmembers=finding["nonmembers"])


def _named(figure: str, finding: Document) -> str:
    return f"{figure} ({finding['attack']})"

"""A scenario analysis: what each variant of pruning leaks, the effects, and what follows."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from privet.report import wording
from privet.report.plots import FAINT, short
from privet.report.svg import SERIES, draw
from privet.report.tables import Table, described, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Document = Mapping[str, Any]

VARIANTS = {
    "dense": "unpruned",
    "one-shot": "one-shot",
    "one-shot-long": "long one-shot",
    "iterative": "iterative",
    "shuffled": "shuffled rows",
    "fresh": "fresh rows",
}
GROUPS = {"all": "all", "lowest": "least memorized", "highest": "most memorized"}
READINGS = {
    ("reuse", "one-shot"): "Data reuse: iterative pruning against one-shot",
    ("reuse", "fresh"): "Data reuse: iterative pruning on the same rows against fresh rows",
    ("reuse", "shuffled"): "Iterative pruning on the same rows against shuffled rows",
    ("rounds", "one-shot-long"): "Iterative pruning against one-shot for as many epochs",
    ("memorability", "lowest"): "Inherent memorability: the quarter that models memorize most, "
    "against the quarter they memorize least",
}
NAMED = {
    "neither": "Neither data reuse nor inherent memorability raises leakage enough to count",
    "data reuse": "Data reuse raises leakage, inherent memorability does not",
    "inherent memorability": "Inherent memorability raises leakage, data reuse does not",
    "both": "Both data reuse and inherent memorability raise leakage",
}


def variants(analysis: Document) -> Table:
    """Return accuracy and leakage of each variant of pruning, one a row."""
    return table(
        f"Leakage of {described(analysis)}",
        ("variant", "accuracy", *(f"AUC, {name}" for name in GROUPS.values())),
        [
            (
                VARIANTS.get(entry["variant"], entry["variant"]),
                _share(entry["accuracy"]),
                *(_with_error(entry["auc"][group]) for group in GROUPS),
            )
            for entry in analysis["variants"]
        ],
        note=f"AUC of {analysis['attack']}, the strongest attack that needs no shadow models; "
        f"guessing is 0.500. Accuracy is on the nonmembers. Mean \N{PLUS-MINUS SIGN} standard "
        f"error over {wording.count(analysis['repeats'])} divisions of the training rows: "
        f"{wording.count(analysis['members'])} members, {wording.count(analysis['nonmembers'])} "
        f"nonmembers, each quarter's against its own. {wording.count(analysis['rounds'])} rounds "
        f"of {wording.count(analysis['epochs'])} epochs; one-shot takes one such round, or as "
        "many epochs as all. Iterative rounds train on the members again; with shuffled rows on "
        "half of them and as many others, a new draw each round; with fresh rows on others only.",
    )


def readings(analysis: Document) -> list[str]:
    """Return a sentence on each effect: what is compared, how much it adds, whether it counts."""
    return [_reading(entry, analysis["criteria"]) for entry in analysis["effects"]]


def verdict(analysis: Document) -> str:
    """Return what the effects come to, the method for it, and what to hold it against."""
    scenario, method = analysis["scenario"], analysis["recommendation"]
    made = "Base is enough" if method == "base" else f"The method made for this is {method}"
    return (
        f"{NAMED.get(scenario, scenario)}. {made}. Before using it, hold it against "
        f"{' and '.join(map(str, analysis['compare']))}: which scenario a method was made for "
        f"does not say how much accuracy it costs, nor how well it holds up (see the README)."
    )


def plot(analysis: Document, *, identity: str) -> str:
    """Draw the AUC of each variant with its standard error, for all samples and both quarters."""
    found = analysis["variants"]
    return draw(
        partial(_plot, found=found),
        identity=identity,
        title=f"Dot plot of the AUC against {len(found)} variants of pruning, for all samples and "
        "for those that models memorize least and most, guessing at 0.5",
        height=1.3 + 0.42 * len(found),
    )


def _plot(figure: "Figure", *, found: list[Document]) -> None:
    axes = figure.subplots()
    axes.axvline(0.5, linestyle=":", linewidth=1.4, label="guessing", **FAINT)
    rows = np.arange(len(found), dtype=float)
    for place, (group, name) in enumerate(GROUPS.items()):
        values = [_number(entry["auc"][group]["mean"]) for entry in found]
        errors = [_number(entry["auc"][group]["error"]) for entry in found]
        # One above the other, so that no error bar hides another.
        spots, color = rows + 0.2 * (place - 1), SERIES[place]
        low, high = np.subtract(values, errors), np.add(values, errors)
        axes.hlines(spots, low, high, colors=color, linewidth=1.2, alpha=0.7)
        axes.plot(values, spots, marker="ov^"[place], linestyle="", color=color, label=name)
    axes.set_yticks(rows, [short(VARIANTS.get(e["variant"], e["variant"])) for e in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel("AUC")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper left", ncols=4)


def _reading(entry: Document, criteria: Document) -> str:
    pair = entry["factor"], entry["against"]
    what = READINGS.get(pair, f"{pair[0]}, against {pair[1]}")
    difference, error = wording.finite(entry["mean"]), wording.finite(entry["error"])
    if difference is None or error is None:
        return f"{what}: not measured."
    found = f"{what}: AUC {difference:+.3f} \N{PLUS-MINUS SIGN} {error:.3f}"
    least, errors = (float(criteria[key]) for key in ("least_effect", "least_errors"))
    if not entry["decides"]:
        return f"{found}; for comparison."
    if entry["counts"]:
        return f"{found}; it counts."
    if difference <= least:
        return f"{found}; it does not count, being at most {least:g}."
    return f"{found}; it does not count, being within {errors:g} standard errors."


def _with_error(entry: Document) -> str:
    mean, error = wording.decimal(entry["mean"]), wording.decimal(entry["error"])
    return f"{mean} \N{PLUS-MINUS SIGN} {error}"


def _share(entry: Document) -> str:
    error = wording.percent(entry["error"]).removesuffix("%")
    return f"{wording.percent(entry['mean'])} \N{PLUS-MINUS SIGN} {error}"


def _number(value: Any) -> float:
    number = wording.finite(value)
    return np.nan if number is None else number

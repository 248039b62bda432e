"""Leakage by how strongly samples are memorized: the strongest attacks, group by group."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from privet.groups import MEMORIZATION
from privet.report import overall, wording
from privet.report.plots import DASHES, FAINT, MARKERS, percent_axis, short
from privet.report.svg import SERIES, draw
from privet.report.tables import Table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Document = Mapping[str, Any]

MOST_ATTACKS = 4


@dataclass(frozen=True)
class Grouped:
    """The strongest attacks, group by group.

    ``rows`` holds an attack's name and its entry in each of the groups ``names``, None where it
    has none. ``fpr`` is where TPRs are read off; None where AUC is the measure.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Document | None, ...]], ...]
    fpr: str | None

    @property
    def measure(self) -> str:
        """What the figures are, in words."""
        return "AUC" if self.fpr is None else f"TPR at {wording.level(float(self.fpr))} FPR"


def by_memorization(audit: Document) -> Grouped | None:
    """Return the strongest attacks by memorization; None where no finding is broken down by it.

    The measure is the TPR at 1 % FPR if every group resolves it, else the AUC.
    """
    found = [one for one in audit["findings"] if overall.groups(one, MEMORIZATION)]
    if not found:
        return None
    strongest = sorted(found, key=lambda one: -(wording.finite(one["auc"]) or 0.0))[:MOST_ATTACKS]
    names = tuple(str(entry["name"]) for entry in overall.groups(strongest[0], MEMORIZATION))
    rows = []
    for finding in strongest:
        entries = {str(one["name"]): one for one in overall.groups(finding, MEMORIZATION)}
        rows.append((str(finding["attack"]), tuple(entries.get(name) for name in names)))
    low = all(wording.resolved(_rate(entry, "0.01")) for _, entries in rows for entry in entries)
    return Grouped(names, tuple(rows), "0.01" if low else None)


def numbers(grouped: Grouped) -> Table:
    """Return the figures of the plot, one attack a row."""
    return table(
        f"{grouped.measure} by memorization",
        ("attack", *grouped.names),
        [
            (attack, *(_figure(entry, grouped.fpr) for entry in entries))
            for attack, entries in grouped.rows
        ],
        note=f"The {len(grouped.rows)} attacks with the highest AUC; groups from the least to the "
        f"most memorized samples. Brackets: 95% interval.",
    )


def plot(grouped: Grouped, *, identity: str) -> str:
    """Draw each attack's figure and interval, group by group, as an inline ``<svg>``."""
    return draw(
        partial(_plot, grouped=grouped),
        identity=identity,
        title=f"Line plot of the {grouped.measure} of {len(grouped.rows)} attacks in "
        f"{len(grouped.names)} groups of samples, from the least to the most memorized",
        height=3.2,
    )


def _plot(figure: "Figure", *, grouped: Grouped) -> None:
    axes = figure.subplots()
    places = np.arange(len(grouped.names))
    guessing = 0.5 if grouped.fpr is None else float(grouped.fpr)
    axes.axhline(guessing, linestyle=":", linewidth=1.4, label="guessing", **FAINT)
    for row, (attack, entries) in enumerate(grouped.rows):
        # Side by side, so that no interval hides another.
        spots = places + 0.09 * (row - (len(grouped.rows) - 1) / 2)
        value, low, high = np.array([_point(entry, grouped.fpr) for entry in entries]).T
        color = SERIES[row]
        axes.vlines(spots, low, high, colors=color, linewidth=1.2, alpha=0.7)
        axes.plot(
            *(spots, value),
            color=color,
            marker=MARKERS[row],
            linestyle=DASHES[row],
            label=short(attack),
        )
    axes.set_xticks(places, [short(name) for name in grouped.names])
    axes.set_xlabel("samples, from the least to the most memorized")
    axes.set_ylabel(grouped.measure)
    if grouped.fpr is not None:
        axes.set_ylim(bottom=0)
        percent_axis(axes, "y")
    figure.legend(loc="outside right upper")


def _rate(entry: Document | None, fpr: str) -> Document | None:
    rates = None if entry is None else entry.get("tpr_at_fpr")
    return None if rates is None else rates.get(fpr)


def _point(entry: Document | None, fpr: str | None) -> tuple[float, float, float]:
    """Return a figure and the ends of its interval, NaN for what is not known."""
    if fpr is None:
        value = None if entry is None else wording.finite(entry["auc"])
        ends = None if entry is None else wording.auc_interval(entry)
    else:
        rate = _rate(entry, fpr)
        value = None if rate is None else wording.finite(rate["tpr"])
        ends = None if rate is None else wording.interval(rate)
    return (np.nan if value is None else value, *(ends or (np.nan, np.nan)))


def _figure(entry: Document | None, fpr: str | None) -> str:
    if entry is None:
        return wording.MISSING
    if fpr is None:
        return wording.auc(entry)
    return wording.rate(_rate(entry, fpr), fpr=float(fpr), nonmembers=entry["nonmembers"])

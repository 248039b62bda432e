"""The figures of a report; each function returns one inline ``<svg>`` element.

``identity`` prefixes the figure's ids and must be unique within a page. Colors and fonts follow
the page (see `privet.report.svg`); color never carries a meaning alone: markers, dashes or
labels say the same.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from privet.report import overall, wording
from privet.report.svg import INK, SERIES, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Document = Mapping[str, Any]

DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)), (0, (9, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
FAINT: dict[str, Any] = {"color": INK, "alpha": 0.55}


def rounds(run: Document, *, identity: str) -> str:
    """Draw train and dev accuracy after each round of pruning, with the sparsity reached."""
    return draw(
        partial(_rounds, run=run),
        identity=identity,
        title=f"Line plot of train and dev accuracy over {len(run['rounds'])} rounds of pruning",
        height=3.1,
    )


def roc(audit: Document, *, identity: str) -> str:
    """Draw the ROC curves of an audit, both axes logarithmic, with the chance diagonal.

    The six curves that rise highest over chance on these axes are in color, the others faint.
    The axes start at one in the number of nonmembers, below which no FPR can be told from zero.
    """
    shown = [finding for finding in audit["findings"] if finding.get("roc")]
    return draw(
        partial(_roc, findings=shown),
        identity=identity,
        title=f"Log-log ROC curves of {len(shown)} attacks against the chance diagonal",
        height=4.1,
    )


def leakage_by_attack(audit: Document, *, identity: str) -> str:
    """Draw balanced accuracy and AUC of each attack as dots, from the highest AUC down."""
    found = sorted(audit["findings"], key=lambda one: wording.finite(one["auc"]) or 0.0)
    return draw(
        partial(_leakage_by_attack, findings=found),
        identity=identity,
        title=f"Dot plot of balanced accuracy and AUC of {len(found)} attacks, guessing at 0.5",
        height=1.3 + 0.26 * len(found),
    )


def leakage_by_defense(pruning: Sequence[Document], *, identity: str) -> str:
    """Draw, for each defense, every attack's balanced accuracy, and test accuracy beside it."""
    return draw(
        partial(_leakage_by_defense, pruning=pruning),
        identity=identity,
        title=f"Dot plot of balanced accuracy of the attacks against {len(pruning)} defenses, "
        "guessing at 50%, with the test accuracy of each defense beside it",
        height=1.4 + 0.48 * len(pruning),
    )


def attack_by_budget(build: Document, *, identity: str) -> str:
    """Draw the attack's accuracy against the noise budget, one line a tier, with baselines."""
    return draw(
        partial(_attack_by_budget, build=build),
        identity=identity,
        title="Line plot of attack accuracy against budget for "
        f"{len(overall.finest(build))} tiers, with the accuracy without protection and of the "
        "most common answer",
        height=3.5,
    )


def accuracy_by_parameters(build: Document, *, identity: str) -> str:
    """Draw the accuracy of the unpruned defense model and its tiers against their parameters."""
    return draw(
        partial(_accuracy_by_parameters, build=build),
        identity=identity,
        title=f"Scatter plot of accuracy against the number of parameters, on a logarithmic "
        f"axis, of the unpruned defense model and {len(overall.finest(build))} tiers",
        height=2.9,
    )


def _rounds(figure: "Figure", *, run: Document) -> None:
    axes = figure.subplots()
    entries = run["rounds"]
    positions = np.arange(len(entries))
    for place, (key, name) in enumerate((("train_accuracy", "train"), ("dev_accuracy", "dev"))):
        values = [_number(entry[key]) for entry in entries]
        axes.plot(positions, values, color=SERIES[place], marker=MARKERS[place], label=name)
    test = _number(run["test_accuracy"])
    last = max(len(entries) - 1, 0)
    axes.plot([last], [test], "D", color=INK, fillstyle="none", label="test, at the end")
    step = 1 + len(entries) // 10
    axes.set_xticks(
        positions[::step],
        [f"{wording.count(one['round'])}\n{wording.percent(one['sparsity'])}" for one in entries][
            ::step
        ],
    )
    axes.set_xlabel("round, and the sparsity reached in it")
    axes.set_ylabel("accuracy")
    percent_axis(axes, "y")
    axes.set_ylim(0, 1.03)
    figure.legend(loc="outside right upper")


def _roc(figure: "Figure", *, findings: Sequence[Document]) -> None:
    axes = figure.subplots()
    floor = 1 / max([float(one["nonmembers"]) for one in findings], default=1000.0)
    floor = min(floor, 0.1)
    curves = [(short(one["attack"]), *_clipped(one["roc"], floor)) for one in findings]
    ranked = sorted(curves, key=lambda curve: -_rise(curve[1], curve[2], floor))
    for place, (name, fpr, tpr) in enumerate(ranked[: len(SERIES)]):
        axes.plot(fpr, tpr, color=SERIES[place], linestyle=DASHES[place], label=name, zorder=3)
    others = ranked[len(SERIES) :]
    for place, (_, fpr, tpr) in enumerate(others):
        label = f"{len(others)} more" if place == 0 else None
        axes.plot(fpr, tpr, color=INK, alpha=0.35, linewidth=0.9, label=label)
    axes.plot([floor, 1], [floor, 1], label="guessing", linestyle=":", linewidth=1.2, **FAINT)
    axes.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.08), aspect="equal")
    for side in (axes.xaxis, axes.yaxis):
        side.set_major_formatter(lambda value, _: wording.level(value))
        side.set_minor_formatter(lambda *_: "")
    axes.set_xlabel("nonmembers accused (FPR)")
    axes.set_ylabel("members found (TPR)")
    figure.legend(loc="outside right upper")


def _clipped(roc: Document, floor: float) -> tuple[Any, Any]:
    fpr = np.maximum(np.asarray(roc["fpr"], dtype=float), floor)
    return fpr, np.maximum(np.asarray(roc["tpr"], dtype=float), floor)


def _rise(fpr: Any, tpr: Any, floor: float) -> float:
    # The area under the curve as drawn: TPR and FPR both in decades.
    grid = np.linspace(np.log10(floor), 0, 200)
    return float(np.interp(grid, np.log10(fpr), np.log10(tpr)).mean())


def _leakage_by_attack(figure: "Figure", *, findings: Sequence[Document]) -> None:
    axes = figure.subplots()
    rows = np.arange(len(findings))
    balanced = [_number(one["balanced_accuracy"]) for one in findings]
    ranked = [_number(one["auc"]) for one in findings]
    axes.axvline(0.5, linestyle=":", linewidth=1.4, label="guessing", **FAINT)
    axes.hlines(rows, balanced, ranked, colors=INK, alpha=0.25, linewidth=1)
    axes.plot(balanced, rows, "o", color=SERIES[0], label="balanced accuracy")
    axes.plot(ranked, rows, "D", color=SERIES[1], fillstyle="none", label="AUC")
    axes.set_yticks(rows, [short(one["attack"]) for one in findings])
    axes.set_ylim(-0.7, len(findings) - 0.3)
    known = [value for value in (*balanced, *ranked) if not np.isnan(value)]
    axes.set_xlim(min([0.45, *known]) - 0.01, max([0.65, *known]) + 0.02)
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper left", ncols=3)


def _leakage_by_defense(figure: "Figure", *, pruning: Sequence[Document]) -> None:
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(5, 3))
    left.axvline(0.5, linestyle=":", linewidth=1.4, **FAINT)
    highest = 0.55
    for row, entry in enumerate(pruning):
        found = (entry.get("audit") or {}).get("findings", [])
        worst = overall.strongest(found, "balanced_accuracy")
        values = [_number(one["balanced_accuracy"]) for one in found]
        left.plot(values, [row] * len(values), "o", color=INK, alpha=0.35, markersize=5)
        if worst is None:
            left.text(0.51, row, "not audited" if not found else "no decisions", va="center")
        else:
            value = float(worst["balanced_accuracy"])
            highest = max(highest, value)
            left.plot(value, row, "D", color=SERIES[1])
            left.annotate(
                f"{wording.percent(value)} {short(worst['attack'])}",
                (value, row),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
            )
        test = _number(entry["prune"]["test_accuracy"])
        right.barh(row, test, height=0.42, color=SERIES[0])
        right.text(test + 0.03, row, wording.percent(test), va="center")
    left.set_yticks(range(len(pruning)), [short(one["prune"]["defense"]) for one in pruning])
    left.set_ylim(len(pruning) - 0.4, -0.6)
    left.set_xlim(left=None, right=highest + 0.75 * (highest - 0.45))
    left.set_title("what leaks: balanced accuracy of attacks", fontsize=9.5, loc="left")
    right.set_title("what stays: test accuracy", fontsize=9.5, loc="left")
    right.set_xlim(0, 1.22)
    left.locator_params(axis="x", nbins=6)
    for axes in (left, right):
        percent_axis(axes, "x")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    right.set_xticks([0, 0.5, 1])


def _attack_by_budget(figure: "Figure", *, build: Document) -> None:
    axes = figure.subplots()
    against = build.get("attack") or {}
    for key, name, dash in (
        ("unprotected_accuracy", "no protection", (0, (6, 2))),
        ("majority_accuracy", "most common answer", ":"),
    ):
        value = wording.finite(against.get(key))
        if value is not None:
            axes.axhline(value, linestyle=dash, linewidth=1.4, label=name, **FAINT)
    unpruned = build.get("base_attack_accuracy_by_budget") or {}
    if unpruned:
        few = overall.fewer_users(build)
        label = f"unpruned model,\n{few}" if few else "unpruned model"
        axes.plot(*_by_budget(unpruned), color=INK, marker="x", label=label)
    for place, tier in enumerate(overall.finest(build)):
        values = tier.get("attack_accuracy_by_budget") or {}
        axes.plot(
            *_by_budget(values),
            color=SERIES[place % len(SERIES)],
            marker=MARKERS[(place + place // len(SERIES)) % len(MARKERS)],
            linestyle=DASHES[place // len(SERIES) % len(DASHES)],
            label=short(f"tier {wording.tier(tier)}"),
        )
    axes.set_ylim(bottom=0)
    keys = overall.budgets(build)
    axes.set_xticks([float(key) for key in keys], keys)
    axes.set_xlabel("budget")
    axes.set_ylabel("attack accuracy")
    percent_axis(axes, "y")
    figure.legend(loc="outside right upper")


def _by_budget(values: Document) -> tuple[list[float], list[float]]:
    keys = sorted(values, key=float)
    return [float(key) for key in keys], [_number(values[key]) for key in keys]


def _accuracy_by_parameters(figure: "Figure", *, build: Document) -> None:
    axes = figure.subplots()
    base = build["base"]
    accuracy = _number(base["accuracy"])
    axes.axhline(accuracy, linestyle=":", linewidth=1.2, **FAINT)
    points = [("unpruned", base, "s", INK)]
    points += [(short(wording.tier(tier)), tier, "o", SERIES[0]) for tier in overall.finest(build)]
    for place, (name, model, marker, color) in enumerate(points):
        spot = (_number(model["parameters"]), _number(model["accuracy"]))
        axes.plot(*spot, marker, color=color)
        # Above and below by turns: neighboring tiers may be close.
        above = place % 2 == 0
        axes.annotate(
            name,
            spot,
            xytext=(0, 7 if above else -7),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
        )
    sizes = np.log10([float(model["parameters"]) for _, model, *_ in points])
    axes.set_xscale("log")
    # Whole decades: a narrower axis might show no labeled tick at all.
    axes.set_xlim(10 ** np.floor(sizes.min() - 0.05), 10 ** np.ceil(sizes.max() + 0.05))
    highest = np.nanmax([0.1, *(_number(model["accuracy"]) for _, model, *_ in points)])
    axes.set_ylim(0, 1.3 * highest)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.set_xlabel("parameters")
    axes.set_ylabel("accuracy")
    percent_axis(axes, "y")


def percent_axis(axes: "Axes", side: str) -> None:
    """Label the ticks of the ``"x"`` or ``"y"`` axis in percent."""
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_major_formatter(lambda value, _: wording.level(round(value, 6)))


def _number(value: Any) -> float:
    number = wording.finite(value)
    return np.nan if number is None else number


def short(name: object) -> str:
    """Return ``name`` for a label in a figure: printable, at most 24 characters."""
    text = wording.printable(name)
    return text if len(text) <= 24 else f"{text[:23]}\N{HORIZONTAL ELLIPSIS}"

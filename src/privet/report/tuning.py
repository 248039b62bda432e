"""A search for settings: its trials as tables, its Pareto front as a plot, its pick in words."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from privet.report import tables, wording
from privet.report.blocks import Facts, Fold, Numbers, Plot, Prose, Section
from privet.report.plots import FAINT, MARKERS, percent_axis, short
from privet.report.svg import INK, SERIES, draw
from privet.report.tables import Table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Document = Mapping[str, Any]


def sections(document: Document) -> list[Section]:
    """Return the sections of a page on one search."""
    pick = document["pick"]
    facts = (
        ("defense", str(pick["defense"])),
        ("development accuracy", wording.percent(pick["dev_accuracy"])),
        ("leakage (AUC)", wording.decimal(pick["leakage"])),
        ("trials", wording.count(len(document["trials"]))),
    )
    made = {key: value for key, value in document.items() if key not in ("trials", "pick")}
    settings = tuple(
        Fold(name, (Numbers(tables.settings(part, title=f"{name}: settings")),))
        for name, part in (("The pick", pick["settings"]), ("The search", made))
    )
    return [
        Section("The pick", (Facts(facts), Prose(rule(document)))),
        section(document, "What was tried"),
        Section("How this was made", settings),
    ]


def section(document: Document, heading: str) -> Section:
    """Return one section on a search: the plot, the front, and all trials behind a line."""
    return Section(
        heading,
        (
            Prose(rule(document)),
            Plot(
                plot(document, identity="tuning"),
                "Each mark is a trial: a defense with some settings. Up is more accurate, left "
                "leaks less. No trial is both more accurate and more private than one on the "
                "stepped line. Above the dotted line, accuracy is within what the pick may lose; "
                "the pick, ringed, leaks least there. Small faint marks are trials that ended "
                "early because another one was clearly better.",
            ),
            Numbers(front(document)),
            Fold("All trials", (Numbers(trials(document)),)),
        ),
    )


def rule(document: Document) -> str:
    """Return how the pick was made and what the figures are worth, in words."""
    pick = document["pick"]
    return (
        f"Picked: trial {wording.count(pick['number'])}, {pick['defense']}: {document['rule']}. "
        f"Accuracy and leakage (the highest AUC of five attacks that need no shadow models; "
        f"guessing is 0.500) were measured on training and development samples that a trial held "
        f"back, never on test samples. The best of many trials is also a lucky one, and stronger "
        f"attacks find more: an audit of the pruned model has the last word."
    )


def front(document: Document) -> Table:
    """Return the trials that no other one beats, one a row, the most accurate first."""
    by_number = {trial["number"]: trial for trial in document["trials"]}
    chosen = [by_number[number] for number in document["front"]]
    return table(
        f"Best trials on {document['dataset']}, sparsity {wording.percent(document['sparsity'])}",
        ("trial", "defense", "options and settings", "accuracy", "leakage"),
        [_row(trial, document) for trial in chosen],
        note=f"* the pick: {document['rule']}. Accuracy on held-back development samples; "
        f"leakage is the highest AUC of five simple attacks, guessing 0.500.",
        labels=3,
    )


def trials(document: Document) -> Table:
    """Return all trials, one a row, in the order in which they were made."""
    return table(
        "All trials",
        ("trial", "defense", "options and settings", "accuracy", "leakage", "state", "time"),
        [
            (*_row(trial, document), trial["state"], wording.duration(trial["seconds"]))
            for trial in document["trials"]
        ],
        note="Pruned trials ended after the first re-split, failed ones could not be trained.",
        labels=3,
    )


def plot(document: Document, *, identity: str) -> str:
    """Draw every trial's accuracy against its leakage, with the Pareto front and the pick."""
    return draw(
        partial(_plot, document=document),
        identity=identity,
        title=f"Scatter plot of accuracy against leakage of {len(document['trials'])} trials, "
        f"their Pareto front, and the pick, {short(document['pick']['defense'])}",
        height=3.9,
    )


def _row(trial: Document, document: Document) -> tuple[str, ...]:
    mark = "*" if trial["number"] == document["pick"]["number"] else ""
    chosen = {**trial["settings"], **trial["options"]}
    return (
        f"{wording.count(trial['number'])}{mark}",
        str(trial["defense"]),
        ", ".join(f"{name} {_plain(value)}" for name, value in sorted(chosen.items())),
        wording.percent(trial["dev_accuracy"]),
        wording.decimal(trial["leakage"]),
    )


def _plain(value: object) -> str:
    number = wording.as_number(value)
    return str(value).lower() if number is None else f"{number:.3g}"


def _plot(figure: "Figure", *, document: Document) -> None:
    axes = figure.subplots()
    measured = [trial for trial in document["trials"] if trial["dev_accuracy"] is not None]
    complete = [trial for trial in measured if trial["state"] == "complete"]
    best = [trial for trial in complete if trial["number"] in document["front"]]
    edge = _spots(sorted(best, key=lambda trial: float(trial["leakage"])))
    axes.step(*edge, where="post", linewidth=1.2, label="Pareto front", zorder=1, **FAINT)
    for place, name in enumerate(dict.fromkeys(trial["defense"] for trial in measured)):
        color = SERIES[(place + place // len(MARKERS)) % len(SERIES)]
        shape: dict[str, Any] = {
            "marker": MARKERS[place % len(MARKERS)],
            "color": color,
            "linestyle": "none",
        }
        tried = [trial for trial in measured if trial["defense"] == name]
        early = _spots(trial for trial in tried if trial["state"] != "complete")
        axes.plot(*early, markersize=4, alpha=0.35, **shape)
        whole = _spots(trial for trial in tried if trial["state"] == "complete")
        axes.plot(*whole, label=short(name), **shape)
    least = max(float(trial["dev_accuracy"]) for trial in complete) - float(document["loss"])
    axes.axhline(least, linestyle=":", linewidth=1.2, label="accurate enough", **FAINT)
    ring = _spots([document["pick"]])
    axes.plot(*ring, "o", color=INK, fillstyle="none", markersize=12, label="the pick")
    axes.set_xlabel("leakage: the strongest AUC; guessing is 0.5")
    axes.set_ylabel("accuracy")
    percent_axis(axes, "y")
    figure.legend(loc="outside right upper")


def _spots(chosen: Iterable[Document]) -> tuple[Any, Any]:
    spots = [(float(trial["leakage"]), float(trial["dev_accuracy"])) for trial in chosen]
    leakage, accuracy = np.array(spots).reshape(-1, 2).T
    return leakage, accuracy

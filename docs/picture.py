"""Make the README's picture from reproductions of WeMem's table on Location.

    privet reproduce wemem --rows defenses --sparsity 0.6 --seeds 5 --out defenses
    privet reproduce wemem --rows controls --sparsity 0.6 --seeds 5 --out controls
    python docs/picture.py defenses/wemem.json controls/wemem.json

Draws what each defense keeps against what two kinds of attack find, with weight decay alone as a
curve to beat, into ``docs/picture.svg``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

SHOWN = ("base", "rsw", "rmr", "swmr", "radd", "hamp", "relaxloss", "adv", "dp", "distill")
GRAY, BLUE, RED = "#666666", "#0072B2", "#D55E00"
PANELS = {
    "strongest_pooled": "pooled attacks: one rule for all samples",
    "strongest_calibrated": "calibrated attacks: each sample by itself",
}


def draw(axes: Axes, rows: list[dict[str, Any]], controls: list[dict[str, Any]], kind: str) -> None:
    decays = [row for row in controls if row["defense"].startswith("decay-")]
    curve = sorted(
        decays, key=lambda row: float(row["settings"]["defense_options"]["weight_decay"])
    )
    axes.plot(
        [row[kind]["auc"] for row in curve],
        [row["test_accuracy"] for row in curve],
        marker=".",
        color=GRAY,
        label="base with more weight decay",
    )
    for row in rows:
        color = RED if row["defense"] == "distill" else BLUE
        axes.errorbar(
            row[kind]["auc"],
            row["test_accuracy"],
            xerr=row[kind]["auc_sd"],
            yerr=row["test_accuracy_sd"],
            fmt="o",
            markersize=4,
            color=color,
            linewidth=0.8,
        )
        axes.annotate(
            row["defense"],
            (row[kind]["auc"], row["test_accuracy"]),
            xytext=(4, 4),
            textcoords="offset points",
            color=color,
            fontsize=9,
        )
    axes.axvline(0.5, linestyle=":", color=GRAY)
    axes.set_xlim(0.47, 0.97)
    axes.set_xlabel("AUC of the strongest attack")
    axes.set_title(PANELS[kind], loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("defenses", type=Path)
    parser.add_argument("controls", type=Path)
    arguments = parser.parse_args()
    document, controls = (
        json.loads(path.read_text()) for path in (arguments.defenses, arguments.controls)
    )
    rows = [row for row in document["rows"] if row["defense"] in SHOWN]
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, PANELS, strict=True):
        draw(axes, rows, controls["rows"], kind)
    panels[0].set_ylabel("test accuracy")
    panels[1].legend(loc="lower right", frameon=False, fontsize=9)
    figure.savefig(
        Path(__file__).with_name("picture.svg"), facecolor="white", metadata={"Date": None}
    )


if __name__ == "__main__":
    main()

"""Make the README's picture from a reproduction of WeMem's table on Location.

    privet reproduce wemem --dataset location --seeds 5 --table docs/wemem-location.md
    python docs/picture.py reproduce-wemem-location/wemem.json

Draws what each defense keeps against what two kinds of attack find, into ``docs/picture.svg``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

# Okabe & Ito's palette: told apart by the color-blind too.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
CALIBRATED = ("lira", "rmia", "lira-offline", "rmia-offline", "calibrated")


def strongest(row: dict[str, Any], *, calibrated: bool) -> dict[str, Any]:
    """Return the attack of the highest mean AUC among the calibrated ones, or the pooled ones.

    The attack on several releases is neither: it sees the unpruned network, too.
    """
    attacks = {k: v for k, v in row["attacks"].items() if k != "multi-release"}
    kind = [v for k, v in attacks.items() if (k in CALIBRATED) == calibrated]
    return max(kind, key=lambda attack: float(attack["auc"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reproduction", type=Path)
    document = json.loads(parser.parse_args().reproduction.read_text())
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for row, color in zip(document["rows"], COLORS, strict=False):
        pooled, calibrated = (strongest(row, calibrated=kind) for kind in (False, True))
        height = row["test_accuracy"]
        axes.plot([pooled["auc"], calibrated["auc"]], [height] * 2, color=color, linewidth=1)
        for attack, fill in ((pooled, "none"), (calibrated, "full")):
            axes.errorbar(
                attack["auc"],
                height,
                xerr=attack["auc_sd"],
                yerr=row["test_accuracy_sd"],
                fmt="o",
                fillstyle=fill,
                color=color,
                capsize=3,
            )
        axes.annotate(
            row["defense"],
            (pooled["auc"], height),
            xytext=(-6, 8),
            textcoords="offset points",
            color=color,
            ha="right",
        )
    axes.axvline(0.5, linestyle=":", color="gray")
    axes.plot([], [], "o", fillstyle="none", color="gray", label="pooled attacks")
    axes.plot([], [], "o", color="gray", label="calibrated for each sample")
    axes.legend(loc="lower right", frameon=False)
    axes.set_xlim(left=0.47)
    axes.set_xlabel("AUC of the strongest attack (0.5 is guessing)")
    axes.set_ylabel("test accuracy")
    axes.set_title(
        f"{document['dataset'].capitalize()}, {document['sparsity']:.0%} of weights pruned, "
        f"{len(document['seeds'])} seeds, mean ± sd",
        loc="left",
        fontsize=11,
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(
        Path(__file__).with_name("picture.svg"), facecolor="white", metadata={"Date": None}
    )


if __name__ == "__main__":
    main()

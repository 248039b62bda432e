"""How strongly a run's training samples are memorized: the scores that its defense went by."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from privet.report import wording
from privet.report.svg import SERIES, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Document = Mapping[str, Any]


def plot(run: Document, *, identity: str) -> str:
    """Draw how many training samples have which memorization score, and which count as risky."""
    return draw(
        partial(_histogram, scores=run["scores"]),
        identity=identity,
        title="Histogram of the memorization scores of the training samples",
        height=2.6,
    )


def caption(run: Document) -> str:
    """Return how to read the plot, in words."""
    words = (
        "Each bar counts training samples. The farther right, the more a model that trained on a "
        "sample is surer of its label than models that did not: it learns the sample by heart."
    )
    if wording.finite(run["scores"].get("threshold")) is not None:
        words += " Right of the dashed line, the defense treats samples as risky."
    return words


def _histogram(figure: "Figure", *, scores: Document) -> None:
    axes = figure.subplots()
    axes.stairs(scores["counts"], scores["edges"], fill=True, color=SERIES[0])
    threshold = wording.finite(scores.get("threshold"))
    if threshold is not None:
        axes.axvline(threshold, color=SERIES[1], linestyle="--")
    axes.set_xlabel("memorization score")
    axes.set_ylabel("training samples")

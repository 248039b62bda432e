"""From a matplotlib figure to SVG that lives inside an HTML page.

The page, not matplotlib, decides on colors and fonts, so that a figure reads well in light and
in dark: figures are painted in stand-in colors, which become CSS variables (with themselves as
the fallback) or ``currentColor`` here.
"""

import warnings
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from privet.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Paint = Callable[["Figure"], None]

INK = "#010203"
"""Stand-in for the color of the text around the figure."""

SERIES = ("#0072b2", "#d55e00", "#009e73", "#b1598f", "#a87400", "#5e4fa2")
"""Okabe and Ito's palette for all kinds of color vision, darkened to 3:1 on white at least."""

WIDTH = 6.4
"""Inches; 9.5 pt text then has the size of the page's small print in a 42 rem column."""

_XLINK = "{http://www.w3.org/1999/xlink}"
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "privet",
    # Names come from documents: a dollar sign in one is a dollar sign, not mathematics.
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
} | dict.fromkeys(
    (
        "text.color",
        "axes.edgecolor",
        "axes.labelcolor",
        "xtick.color",
        "ytick.color",
        "grid.color",
    ),
    INK,
)


def draw(paint: Paint, *, identity: str, title: str, height: float) -> str:
    """Return what ``paint`` puts on a fresh transparent figure, as an inline ``<svg>`` element.

    Equal calls give equal text. matplotlib reads its styles from process-wide settings; they are
    set for the length of the call only, so figures must not be drawn from two threads at once.

    Parameters
    ----------
    paint
        Draws on the `Figure` it is given.
    identity
        Prefix of every id in the SVG, letters, digits and dashes; unique within the page.
    title
        The accessible name: what a reader who does not see the figure should know of it.
    height
        Inches.

    Raises
    ------
    OptionError
        When matplotlib is not installed.
    """
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OptionError(
            f"reports need matplotlib ({error}); install it with: pip install 'privet[report]'"
        ) from None
    # Start from matplotlib's own defaults: a user's matplotlibrc must not change a report.
    with style.context(_STYLE, after_reset=True), warnings.catch_warnings():
        # A glyph outside matplotlib's font only costs it the exact width: the browser draws it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure)
        written = BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    return _inline(written.getvalue(), identity=identity, title=title)


def _inline(svg: bytes, *, identity: str, title: str) -> str:
    root = ElementTree.fromstring(svg)  # noqa: S314 - matplotlib wrote it just now
    # Its one rule would apply to the whole page; the page's own style holds it for SVG.
    _drop_styles(root)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text = (element.text or "").strip() if element.tag != "text" else element.text
        element.tail = None
        _restyle(element, identity)
    name = ElementTree.Element("title", id=f"{identity}-title")
    name.text = title
    root.insert(0, name)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{identity}-title",
    }
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _drop_styles(root: ElementTree.Element) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}style"):
                parent.remove(child)


def _restyle(element: ElementTree.Element, identity: str) -> None:
    attributes = element.attrib
    reference = attributes.pop(f"{_XLINK}href", None)
    if reference is not None:
        attributes["href"] = f"#{identity}-{reference.removeprefix('#')}"
    if "clip-path" in attributes:
        attributes["clip-path"] = attributes["clip-path"].replace("(#", f"(#{identity}-")
    if element.tag == "g":
        # Groups are never referred to; the ids left are those of markers and clip paths.
        attributes.pop("id", None)
    elif "id" in attributes:
        attributes["id"] = f"{identity}-{attributes['id']}"
    if "style" in attributes:
        parts = [part.strip() for part in attributes["style"].split(";")]
        kept = [_recolor(part) for part in parts if not part.startswith("font-family")]
        attributes["style"] = "; ".join(kept)


def _recolor(declaration: str) -> str:
    declaration = declaration.replace(INK, "currentColor")
    for position, color in enumerate(SERIES, start=1):
        declaration = declaration.replace(color, f"var(--series-{position}, {color})")
    return declaration

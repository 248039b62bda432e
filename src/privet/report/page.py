"""One self-contained HTML page from sections, through the template ``page.html.j2``."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from privet.errors import DataError, OptionError, PrivetError
from privet.report import sections, table1, tables, tuning, wording
from privet.report.blocks import Section

if TYPE_CHECKING:
    from jinja2 import Environment

Document = Mapping[str, Any]

_SECTIONS: dict[str, Callable[[Document], list[Section]]] = {
    "run": sections.run,
    "protect": sections.protect,
    "demo": sections.demo,
    "analyse": sections.analyse,
    "tune": tuning.sections,
    "table1": table1.sections,
}


def render(document: Document, kind: str) -> str:
    """Return the page on ``document``; see `privet.report.render_html`."""
    if kind not in _SECTIONS:
        raise OptionError(f"unknown report kind {kind!r}; choose from {', '.join(_SECTIONS)}")
    template = _environment().get_template("page.html.j2")
    try:
        title, intro = _heading(document, kind)
        parts = _SECTIONS[kind](document)
    except PrivetError:
        raise
    except KeyError as error:
        raise DataError(
            f"the {kind} document lacks {error}; make it again with this version of privet"
        ) from error
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise DataError(
            f"the {kind} document does not have a report's shape ({error}); make it again"
        ) from error
    return template.render(title=title, intro=intro, sections=parts)


def _heading(document: Document, kind: str) -> tuple[str, list[str]]:
    if kind == "demo":
        spent = f"The whole tour took {wording.duration(document['seconds'])} on this machine."
        return str(document["title"]), [*str(document["intro"]).splitlines(), spent]
    if kind == "protect":
        build = document
        return f"Protection of {build['dataset']}", [f"{len(build['tiers'])} tiers built."]
    if kind == "analyse":
        spent = f"The analysis took {wording.duration(document['seconds'])}."
        return f"{document['dataset']}: what makes pruning leak", [spent]
    if kind == "tune":
        spent = f"All trials together took {wording.duration(document['seconds'])}."
        return f"{document['dataset']}: settings searched for", [spent]
    if kind == "table1":
        seeds = len(document["seeds"])
        return f"{document['dataset']}: SP-ASPP's Table 1, reproduced", [f"Over {seeds} seeds."]
    pruned = document["prune"]
    spent = wording.duration(pruned["seconds"])
    described = tables.described(pruned)
    return _run_title(pruned), [f"Trained on {described}; pruning took {spent}."]


def _run_title(pruned: Document) -> str:
    defense = pruned["defense"]
    how = "without a defense" if defense == "none" else f"under the defense {defense}"
    return f"{pruned['dataset']}, pruned {how}"


@cache
def _environment() -> "Environment":
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise OptionError(
            f"reports need Jinja2 ({error}); install it with: pip install 'privet[report]'"
        ) from None
    return Environment(
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else wording.printable(value),
        loader=PackageLoader("privet.report", "."),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )

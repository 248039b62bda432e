"""The report room: finished JSON documents become terminal tables and one self-contained page.

Nothing here trains, attacks or measures, and nothing imports torch: every figure on a page is
read from the document, so a page can be made again anywhere from the JSON alone. The layers:

- `privet.report.wording` puts single numbers into words,
- `privet.report.tables` arranges them, for the terminal and the page alike;
  `privet.report.exposure`, `privet.report.comparison`, `privet.report.definitions` and
  `privet.report.cards` do so for those whom averages hide, defenses side by side, Definitions 1-3
  and a bundle's card; `privet.report.scenarios` for a scenario analysis;
  `privet.report.tuning` for a search for settings; `privet.report.reproduction` and
  `privet.report.table1` for the papers' tables; `privet.report.attacker` says what an audit's
  attacker knew,
- `privet.report.terminal` shows the tables with Rich, `privet.report.markdown` writes them for
  documents,
- `privet.report.plots` and `privet.report.grouped` draw them as inline SVG (matplotlib, imported
  on first use),
- `privet.report.sections` decides what a page says, in `privet.report.blocks`, and
  `privet.report.page` sets it in HTML (Jinja2, imported on first use).
"""

from collections.abc import Mapping
from typing import Any, Literal

from privet.report.wording import printable

__all__ = ["Kind", "printable", "render_html"]

Kind = Literal["run", "protect", "analyse", "tune", "demo", "table1"]


def render_html(document: Mapping[str, Any], kind: Kind) -> str:
    """Return one HTML page, with styles and plots inside, that shows ``document``.

    The page loads nothing and runs no script. Equal documents give equal pages, byte for byte,
    under the same versions of matplotlib and Jinja2.

    Parameters
    ----------
    document
        A finished JSON document: for ``"run"`` a mapping of ``"prune"`` and ``"audit"`` (the
        latter may be None), for ``"protect"`` what a protection build wrote, for ``"analyse"``
        a scenario analysis' result, for ``"tune"`` a search's, for ``"demo"`` what the guided
        tour wrote, for ``"table1"`` a reproduction of SP-ASPP's table. It is not changed.
    kind
        Which of these it is.

    Raises
    ------
    OptionError
        On another ``kind``, or when matplotlib or Jinja2 is not installed.
    DataError
        When the document lacks a part, or holds text where a number belongs.
    """
    from privet.report import page

    return page.render(document, kind)

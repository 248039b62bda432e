"""A table of a report in GitHub-flavored Markdown, for documents."""

import re
from collections.abc import Iterable

from privet.report.tables import Table


def markdown(table: Table) -> str:
    """Return the grid of ``table``, without title and note, ending in a line break.

    Names and figures are shown as they are: marks that Markdown or HTML would act on, the pipe
    among them, are escaped.
    """
    names = min(table.labels, len(table.columns))
    rule = [":--"] * names + ["--:"] * (len(table.columns) - names)
    body = "".join(_line(map(_literal, row)) for row in table.rows)
    return _line(map(_literal, table.columns)) + _line(rule) + body


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _literal(text: str) -> str:
    return re.sub(r"([\\|`*_~<&])", r"\\\1", text)

"""The tables of a report in the terminal, as Rich renderables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from privet.report import cards, comparison, definitions, tables, wording
from privet.report.tables import Table

LONGEST_FIGURE = 20


def audit_table(audit: Mapping[str, Any]) -> RichTable:
    """Return an audit's findings, one attack a row, with intervals in brackets."""
    return rich(tables.audit(audit))


def prune_table(run: Mapping[str, Any]) -> RichTable:
    """Return a pruning run round by round, the finished model's figures below."""
    return rich(tables.rounds(run))


def protect_table(build: Mapping[str, Any]) -> RichTable:
    """Return a protection build: the unpruned defense model, then one tier a row."""
    return rich(tables.tiers(build))


def definitions_table(build: Mapping[str, Any]) -> RichTable:
    """Return a protection build's Definitions 1-3: bound, worst tier and verdict."""
    return rich(definitions.definitions(build))


def card_table(card: Mapping[str, Any]) -> RichTable:
    """Return a bundle's card, which may hold anything that JSON can; never raises."""
    return rich(cards.card_table(card))


def comparison_table(pruning: Sequence[Mapping[str, Any]]) -> RichTable:
    """Return defenses side by side: accuracy kept against what leaks.

    ``pruning`` holds ``{"prune": run, "audit": audit or None}``, one a defense.
    """
    compared, exposed = (
        comparison.comparison(pruning),
        wording.printable(comparison.exposed(pruning)),
    )
    return rich(replace(compared, note=f"{exposed} {compared.note}".strip()))


def rich(table: Table) -> RichTable:
    """Return ``table`` for Rich; cells are literal text, so brackets in them are no markup."""
    shown = RichTable(
        title=Text(table.title, style="bold"),
        caption=Text(table.note) if table.note else None,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    for position, column in enumerate(table.columns):
        shown.add_column(
            Text(column),
            justify="left" if position < table.labels else "right",
            overflow="fold",
        )
    for row in table.rows:
        shown.add_row(*(Text(_unbroken(cell)) for cell in row))
    return shown


def _unbroken(cell: str) -> str:
    """Keep a figure and its interval on one line, where they are short enough for one."""
    return cell.replace(" ", "\N{NO-BREAK SPACE}") if len(cell) <= LONGEST_FIGURE else cell

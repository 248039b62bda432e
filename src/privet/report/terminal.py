"""The tables of a report in the terminal, as Rich renderables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from privet.report import (
    attacker,
    cards,
    comparison,
    definitions,
    exposure,
    scenarios,
    tables,
    tuning,
    wording,
)
from privet.report.tables import Table

LONGEST_FIGURE = 20
NARROWEST = 8
WIDEST = 1000


@dataclass(frozen=True)
class Fitting:
    """The first of several tables that fits the terminal, the last if none does."""

    choices: tuple[RichTable, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table for the width at hand."""
        room = options.update(max_width=WIDEST)
        for choice in self.choices[:-1]:
            if console.measure(choice, options=room).maximum <= options.max_width:
                yield choice
                return
        yield self.choices[-1]


def audit_table(audit: Mapping[str, Any]) -> Fitting:
    """Return an audit's findings, one attack a row, with intervals in brackets.

    Where the terminal is too narrow, intervals are left out, those of the highest FPRs first.
    The note says what the attacker knew, what could not be run, and what averages hide.
    """
    found = audit["findings"]
    words = [exposure.flattering(found), exposure.canary_verdict(audit), *attacker.knowledge(audit)]
    choices = []
    for intervals in (None, 2, 1, 0):
        shown = tables.audit(audit, intervals=intervals)
        note = " ".join(part for part in (*words, shown.note) if part)
        choices.append(rich(replace(shown, note=wording.printable(note))))
    return Fitting(tuple(choices))


def prune_table(run: Mapping[str, Any]) -> RichTable:
    """Return a pruning run round by round, the finished model's figures below."""
    return rich(tables.rounds(run))


def analysis_table(analysis: Mapping[str, Any]) -> RichTable:
    """Return a scenario analysis, one variant of pruning a row."""
    return rich(scenarios.variants(analysis))


def tune_table(search: Mapping[str, Any]) -> RichTable:
    """Return a search's best trials, the pick marked."""
    return rich(tuning.front(search))


def protect_table(build: Mapping[str, Any]) -> Fitting:
    """Return a protection build: the unpruned defense model, then one tier a row."""
    return fitting(tables.tiers(build))


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


def fitting(table: Table) -> Fitting:
    """Return ``table`` as it is, with rows for columns, or with a line a figure: as room allows."""
    first, *figures = table.columns
    turned = replace(
        table,
        columns=(first, *(row[0] for row in table.rows)),
        rows=tuple(zip(figures, *(row[1:] for row in table.rows), strict=True)),
        labels=1,
    )
    listed = replace(
        table,
        columns=(first, "figure", "value"),
        rows=tuple(
            (row[0] if column == figures[0] else "", column, cell)
            for row in table.rows
            for column, cell in zip(figures, row[1:], strict=True)
        ),
        labels=2,
    )
    return Fitting(tuple(map(rich, (table, turned, listed))))


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
        widest = max((len(row[position]) for row in table.rows), default=len(column))
        # Broken here, or long headings would take the room that figures need.
        room = max(widest, NARROWEST)
        heading = wrap(column, room, break_long_words=False, break_on_hyphens=False)
        shown.add_column(
            Text("\n".join(heading)),
            justify="left" if position < table.labels else "right",
            overflow="fold",
        )
    for row in table.rows:
        shown.add_row(*(Text(_unbroken(cell)) for cell in row))
    return shown


def _unbroken(cell: str) -> str:
    """Keep a figure and its interval on one line, where they are short enough for one."""
    return cell.replace(" ", "\N{NO-BREAK SPACE}") if len(cell) <= LONGEST_FIGURE else cell

"""Which columns of a table are a bundle's features, told by their names."""

from collections.abc import Sequence
from dataclasses import dataclass

from privet.device.formats.layout import Wanted
from privet.errors import DataError


@dataclass(frozen=True)
class Columns:
    """Where features and all else stand in a table.

    Parameters
    ----------
    features
        The column of every feature, in the order of the features.
    others
        Columns that are no feature, ascending.
    """

    features: tuple[int, ...]
    others: tuple[int, ...] = ()

    @property
    def in_order(self) -> bool:
        """Whether the table holds the features in their order and nothing else."""
        return not self.others and self.features == tuple(range(len(self.features)))


def stripped(names: Sequence[str]) -> list[str]:
    """Return names without the blanks around them."""
    return [name.strip() for name in names]


def match(header: Sequence[str], wanted: Wanted) -> Columns:
    """Find the features in a table's header; without names to look for, count from the left.

    Raises
    ------
    DataError
        On a feature without a column or with two, and on other columns where ``wanted.extra``
        refuses them or the features have no names to tell them apart by.
    """
    if wanted.names is None:
        if len(header) != wanted.features:
            raise DataError(
                f"{wanted.place}: the header has {len(header)} columns, not {wanted.features}"
            )
        return Columns(tuple(range(wanted.features)))
    cells, names = stripped(header), stripped(wanted.names)
    places = {name: column for column, name in enumerate(cells)}
    known = set(names)
    missing = [name for name in names if name not in places]
    others = [column for column, name in enumerate(cells) if name not in known]
    refused = [cells[column] for column in others] if wanted.extra == "refuse" else []
    if missing or refused:
        wrong = [f"has no {listed(missing)}"] * bool(missing)
        wrong += [f"has {listed(refused)}, unknown to the bundle"] * bool(refused)
        remedy = "name the bundle's features" if missing else "keep or drop others (--extra)"
        raise DataError(f"{wanted.place}: its header {' and '.join(wrong)}; {remedy}")
    twice = (name for column, name in enumerate(cells) if name in known and places[name] != column)
    for name in twice:
        raise DataError(f"{wanted.place}: its header names {name[:40]!r} twice")
    return Columns(tuple(places[name] for name in names), tuple(others))


def listed(names: list[str]) -> str:
    """Name the first three of many."""
    shown = ", ".join(repr(name[:40]) for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown

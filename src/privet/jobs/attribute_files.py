"""What the attribute audit reads: people's records and attributes, and the defense they may use.

Importing this module imports no torch.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from privet.attacks.attribute import Protect, Records, Rows
from privet.data.table import Table
from privet.data.tables import read_labels, read_scores
from privet.device import Bundle, load_bundle
from privet.device.formats import format_of, opened
from privet.device.protect import check_budget
from privet.errors import DataError, OptionError

Names = tuple[Sequence[str] | None, Sequence[str] | None]


def read_records(path: Path, *, features: int, names: Sequence[str] | None) -> Records:
    """Read users' records; no labels are in the file, and columns go by ``names``, if there are."""
    if format_of(path) == "pairs":
        return read_scores(path, features=features)
    with opened(path, features, ratings=True, names=names) as file:
        blocks = list(file.blocks)
    if not blocks:
        raise DataError(f"{path} holds no records")
    return np.concatenate(blocks).astype(np.float32)


def read_truth(path: Path, *, classes: int, names: Sequence[str] | None) -> Rows:
    """Read one attribute a line: a class name where classes have names, else a number."""
    if names is None:
        return read_labels(path, classes=classes)
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
        ) from None
    numbers = {name: number for number, name in enumerate(names)}
    for line, name in enumerate(lines, start=1):
        if name.strip() not in numbers:
            shown = ", ".join(names[:5]) + (", ..." if len(numbers) > 5 else "")
            raise DataError(f"{path}, line {line}: {name[:40]!r} is no class; they are {shown}")
    return np.array([numbers[name.strip()] for name in lines], dtype=np.int64)


def names_in(build: Path, *, features: int, classes: int) -> Names:
    """Return what the bundles of a build call its features and classes; None where they do not."""
    for path in sorted(build.glob("[!.]*.safetensors")):
        bundle = load_bundle(path)
        if (bundle.features, bundle.network.sizes[-1]) == (features, classes):
            return bundle.feature_names, bundle.class_names
    return None, None


def read_defense(bundle: Path | None, budget: float | None) -> tuple[Bundle, float] | None:
    """Read a bundle of attribute protection; None where neither it nor a budget is named.

    Raises
    ------
    OptionError
        When only one of the two is named, or they do not make an attribute protection.
    BundleError
        When the file is no usable bundle.
    """
    if (bundle is None) != (budget is None):
        raise OptionError("--bundle and --budget go together; give both, or neither")
    if bundle is None or budget is None:
        return None
    defense = load_bundle(bundle)
    if defense.kind != "attribute":
        raise OptionError(f"{bundle} is a {defense.kind} bundle; name one of attribute protection")
    check_budget(defense.kind, budget)
    return defense, budget


def protection_for(table: Table, bundle: Bundle, budget: float) -> Protect:
    """Return a bundle's defense for a table's records.

    Raises
    ------
    DataError
        When the bundle is not made for such records.
    """
    names = bundle.feature_names, table.feature_names
    if bundle.features != table.row_shape[0] or (None not in names and names[0] != names[1]):
        raise DataError(
            f"the bundle protects {bundle.features} features, {table.name} has "
            f"{table.row_shape[0]}; both need the same, in the same order"
        )
    from privet.jobs.attribute_evaluation import bundle_protection

    return bundle_protection(bundle, budget)

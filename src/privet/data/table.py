"""One labelled dataset in memory, checked once when it is made."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from privet.errors import DataError

Inputs = NDArray[np.float32] | sparse.csr_array | sparse.csr_matrix
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Table:
    """Labelled rows, with their held-out rows where the dataset comes with some.

    Parameters
    ----------
    inputs
        float32, finite: shape (n, features), dense or scipy CSR; (n, steps, features) for
        sequences; or (n, 3, height, width) with values in [0, 1] for images.
    labels
        Shape (n,), int64 in ``0 .. classes - 1``.
    classes
        Number of classes, at least 2. A class may have no rows.
    name
        What messages and reports call it.
    test
        The dataset's own held-out rows, of the same shape and classes.
    feature_names
        One name for each column, where the source has names.
    class_names
        What the source calls each class, in the order of their numbers.

    Raises
    ------
    DataError
        Naming the first row (counted from 0) and column at fault.
    """

    inputs: Inputs
    labels: Indices
    classes: int
    name: str
    test: "Table | None" = None
    feature_names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self._check_inputs()
        self._check_labels()
        if self.feature_names is not None and (len(self.feature_names),) != self.row_shape:
            raise DataError(
                f"{self.name}: {len(self.feature_names)} feature names for rows of shape "
                f"{self.row_shape}"
            )
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise DataError(
                f"{self.name}: {len(self.class_names)} class names for {self.classes} classes"
            )
        if self.test is None:
            return
        if (self.test.row_shape, self.test.classes) != (self.row_shape, self.classes):
            raise DataError(
                f"{self.name}: test rows have shape {self.test.row_shape} and "
                f"{self.test.classes} classes; the others {self.row_shape} and {self.classes}"
            )

    def _check_inputs(self) -> None:
        inputs = self.inputs
        if sparse.issparse(inputs):
            if inputs.format != "csr":
                raise DataError(f"{self.name}: sparse inputs must be CSR; call .tocsr()")
        elif inputs.ndim not in (2, 3, 4) or (inputs.ndim == 4 and inputs.shape[1] != 3):
            raise DataError(
                f"{self.name}: inputs must have shape (n, features), (n, steps, features) or "
                f"(n, 3, height, width); got {inputs.shape}"
            )
        if inputs.dtype != np.float32:
            raise DataError(f"{self.name}: inputs must be float32; got {inputs.dtype}")
        if 0 in inputs.shape:
            raise DataError(f"{self.name}: no data: inputs have shape {inputs.shape}")
        values: NDArray[np.float32] = inputs.data if sparse.issparse(inputs) else inputs
        if values.size == 0:
            return
        # NaN and infinities survive min and max, which, unlike isfinite, make no copy.
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise DataError(f"{self.name}: {self._place(~np.isfinite(values))} is NaN or infinite")
        if inputs.ndim == 4 and (low < 0 or high > 1):
            place = self._place((values < 0) | (values > 1))
            raise DataError(f"{self.name}: image values must lie in [0, 1]; {place} does not")

    def _check_labels(self) -> None:
        labels, rows = self.labels, self.inputs.shape[0]
        if labels.shape != (rows,):
            raise DataError(
                f"{self.name}: {rows} rows need labels of shape ({rows},); got {labels.shape}"
            )
        if labels.dtype != np.int64:
            raise DataError(f"{self.name}: labels must be int64; got {labels.dtype}")
        if self.classes < 2:
            raise DataError(f"{self.name}: needs at least two classes; got {self.classes}")
        bad = np.flatnonzero((labels < 0) | (labels >= self.classes))
        if bad.size:
            raise DataError(
                f"{self.name}: labels must lie in 0..{self.classes - 1}; "
                f"row {bad[0]} has {labels[bad[0]]}"
            )

    def _place(self, bad: NDArray[np.bool_]) -> str:
        first = int(np.argmax(bad))
        if sparse.issparse(self.inputs):
            row = int(np.searchsorted(self.inputs.indptr, first, side="right")) - 1
            return f"row {row}, column {self.inputs.indices[first]}"
        row, *column = (int(i) for i in np.unravel_index(first, bad.shape))
        return f"row {row}, column {column[0] if len(column) == 1 else tuple(column)}"

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.inputs.shape[0])

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row: (features,), (steps, features) or (3, height, width)."""
        return tuple(int(size) for size in self.inputs.shape[1:])

    @property
    def images(self) -> bool:
        """Whether the rows are images."""
        return self.inputs.ndim == 4

    def take(self, indices: Indices) -> "Table":
        """Return the rows at ``indices``, in that order, without the test table.

        Raises
        ------
        DataError
            On no rows, or an index outside ``0 .. n - 1`` (a negative one is a mistake here, not
            a count from the end).
        """
        bad = np.flatnonzero((indices < 0) | (indices >= len(self)))
        if bad.size:
            raise DataError(f"{self.name} has rows 0..{len(self) - 1}; got {indices[bad[0]]}")
        return replace(self, inputs=self.inputs[indices], labels=self.labels[indices], test=None)


def joined(table: Table) -> Table:
    """Return the table with its test rows at the end, and no test table."""
    if table.test is None:
        return table
    both = [table.inputs, table.test.inputs]
    inputs: Inputs
    if any(sparse.issparse(part) for part in both):
        inputs = sparse.csr_array(sparse.vstack([sparse.csr_array(part) for part in both]))
    else:
        inputs = np.concatenate([np.asarray(part) for part in both])
    labels = np.concatenate([table.labels, table.test.labels])
    return replace(table, inputs=inputs, labels=labels, test=None)


def with_held_out(table: Table, other: Table) -> Table:
    """Return the table with another one as its test rows, its classes matched by their names.

    Raises
    ------
    DataError
        When rows or classes of the other are not like those of the table.
    """
    ours, theirs = table.feature_names, other.feature_names
    if ours is not None and theirs is not None and ours != theirs:
        raise DataError(
            f"{other.name}: its columns must be those of {table.name}, in the same order"
        )
    labels = other.labels
    if table.class_names is not None and other.class_names is not None:
        strange = sorted(set(other.class_names) - set(table.class_names))
        if strange:
            raise DataError(
                f"{other.name}: class {strange[0]!r} is not among those of {table.name}"
            )
        number = [table.class_names.index(name) for name in other.class_names]
        labels = np.asarray(number, dtype=np.int64)[labels]
    elif other.classes > table.classes:
        raise DataError(f"{other.name} has {other.classes} classes; {table.name} {table.classes}")
    same = replace(
        other,
        labels=labels,
        classes=table.classes,
        class_names=table.class_names,
        test=None,
    )
    return replace(table, test=same)

"""What jobs do with data: remember which it was, and hold it as dense tensors in memory."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from privet import query
from privet.data.registry import DATASETS
from privet.data.table import Indices, Table
from privet.errors import DataError
from privet.fit import Dense
from privet.signals import IntArray


def data_settings(dataset: str, table: Table) -> dict[str, str]:
    """Return what a run remembers of its data: where it is, and a digest of what it held.

    A file that changes between two commands would change who was a member.
    """
    where = dataset if dataset in DATASETS else str(Path(dataset).expanduser().resolve())
    return {"dataset": where, "data": fingerprint(table)}


def fingerprint(table: Table) -> str:
    """Return the SHA-256 of a table's content, names and held-out rows, in hexadecimal."""
    inputs = table.inputs
    parts: list[NDArray[Any]]
    if isinstance(inputs, np.ndarray):
        parts = [inputs]
    else:
        parts = [inputs.data, inputs.indices, inputs.indptr]
    named = repr((inputs.shape, table.feature_names, table.class_names))
    digest = hashlib.sha256(named.encode())
    if table.test is not None:
        digest.update(fingerprint(table.test).encode())
    for part in (*parts, table.labels):
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def dense(table: Table, rows: Indices) -> Dense:
    """Return some rows of a table as dense tensors."""
    part = table.take(rows)
    dense = part.inputs if isinstance(part.inputs, np.ndarray) else part.inputs.toarray()
    return torch.from_numpy(dense), torch.from_numpy(part.labels)


def as_dense(data: Any, model: nn.Module) -> Dense:
    """Return ``(X, y)`` or a map-style dataset as tensors in memory that fit ``model``.

    Raises
    ------
    DataError
        When there are no samples, lengths disagree, inputs are not finite or not what the model
        takes, or labels are not among its classes.
    """
    if isinstance(data, tuple) and len(data) == 2:
        inputs, labels = (torch.as_tensor(part) for part in data)
    else:
        samples = [data[i] for i in range(len(data))]
        inputs = (
            torch.stack([torch.as_tensor(x) for x, _ in samples]) if samples else torch.empty(0)
        )
        labels = torch.tensor([float(y) for _, y in samples])
    inputs = inputs.float()
    if labels.ndim != 1 or len(inputs) != len(labels) or not len(labels):
        raise DataError(
            f"data must be samples with one integer label each; got inputs of shape "
            f"{tuple(inputs.shape)} and labels of shape {tuple(labels.shape)}"
        )
    if not torch.isfinite(inputs).all():
        raise DataError("the inputs hold NaN or infinite values; clean them first")
    try:
        classes = query.logits(model, inputs[:1]).shape[1]
    except RuntimeError as error:
        raise DataError(
            f"the model does not take inputs of shape {tuple(inputs.shape[1:])}: {error}"
        ) from None
    if not ((labels == labels.long()) & (labels >= 0) & (labels < classes)).all():
        raise DataError(
            f"labels must be integers in 0..{classes - 1}, the model's outputs; "
            f"got {labels.min():g}..{labels.max():g}"
        )
    return inputs, labels.long()


def rows_of(data: Dense, rows: IntArray) -> Dense:
    """Return some samples."""
    return data[0][rows], data[1][rows]


def joined(first: Dense, second: Dense) -> Dense:
    """Return the samples of both, the first one's first."""
    return torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])

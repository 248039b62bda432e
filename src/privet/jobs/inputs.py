"""What jobs do with data: remember which it was, and hold it as dense tensors in memory."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from privet import query
from privet.data.registry import DATASETS
from privet.data.table import Indices, Table
from privet.errors import DataError, PrivetError
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
        When the data is neither, there are no samples, lengths disagree, inputs are not finite or
        not what the model takes, or labels are not among its classes.
    """
    inputs, labels = _tensors(data)
    if labels.ndim != 1 or len(inputs) != len(labels) or not len(labels):
        raise DataError(
            f"data must be samples with one integer label each; got inputs of shape "
            f"{tuple(inputs.shape)} and labels of shape {tuple(labels.shape)}"
        )
    if not torch.isfinite(inputs).all():
        raise DataError("the inputs hold NaN or infinite values; clean them first")
    classes = first_answers(model, inputs[:1]).shape[1]
    if not ((labels == labels.long()) & (labels >= 0) & (labels < classes)).all():
        raise DataError(
            f"labels must be integers in 0..{classes - 1}, the model's outputs; "
            f"got {labels.min():g}..{labels.max():g}"
        )
    return inputs, labels.long()


def first_answers(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return a model's logits on a few inputs, shape (samples, outputs).

    Raises
    ------
    DataError
        When there are none: the model does not take such inputs, or answers otherwise.
    """
    try:
        answers = query.logits(model, inputs)
    except PrivetError:
        raise
    except Exception as error:  # a network of the user's own may raise anything
        reason = " ".join(str(error).split())[:200]
        wider = {each.dtype for each in model.parameters()} - {inputs.dtype}
        cast = f"; privet computes in {inputs.dtype}, so pass model.float()" if wider else ""
        raise DataError(
            f"the model does not take rows of shape {tuple(inputs.shape[1:])}: {reason}{cast}"
        ) from None
    if answers.ndim != 2 or len(answers) != len(inputs):
        raise DataError(
            f"the model must answer each sample with a row of logits, one for each class; it "
            f"answers {len(inputs)} with shape {tuple(answers.shape)}"
        )
    return answers


def require_trainable(model: nn.Module) -> None:
    """Raise `DataError` when no parameter of the model may change."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise DataError(
            f"no parameter of {type(model).__name__} can be trained; unfreeze some with "
            f"requires_grad_(True)"
        )


def _tensors(data: Any) -> Dense:
    """Return the inputs, in float32 and without gradients, and the labels as they are."""
    whole = isinstance(data, tuple) or (
        isinstance(data, list) and all(isinstance(part, (np.ndarray, Tensor)) for part in data)
    )
    try:
        if whole and len(data) == 2:
            inputs, labels = (_tensor(part) for part in data)
        else:
            samples = [data[i] for i in range(len(data))]
            inputs = torch.stack([_tensor(x) for x, _ in samples]) if samples else torch.empty(0)
            labels = torch.tensor([float(y) for _, y in samples])
        return inputs.detach().float(), labels.detach()
    except Exception as error:  # data of the user's own may raise anything
        parts = f" of {_kinds(data)}" if isinstance(data, (tuple, list)) else ""
        raise DataError(
            f"data must be (X, y), arrays or tensors of numbers, or a map-style dataset of "
            f"(tensor, integer) pairs; got {type(data).__name__}{parts} "
            f"({' '.join(str(error).split())[:200]}): convert it first, e.g. with a DataLoader's "
            f".dataset, a sparse X.toarray(), ToTensor() for images, numbers for class names"
        ) from error


def _tensor(part: Any) -> Tensor:
    """Return a part of the data as a tensor, which alone shares memory with it where it can."""
    backwards = isinstance(part, np.ndarray) and min(part.strides, default=0) < 0
    return torch.as_tensor(part.copy() if backwards else part)


def _kinds(data: tuple[Any, ...] | list[Any]) -> str:
    """Return the types of a few items."""
    return ", ".join(dict.fromkeys(type(each).__name__ for each in data[:3])) or "nothing"


def rows_of(data: Dense, rows: IntArray) -> Dense:
    """Return some samples."""
    return data[0][rows], data[1][rows]


def joined(first: Dense, second: Dense) -> Dense:
    """Return the samples of both, the first one's first."""
    return torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])

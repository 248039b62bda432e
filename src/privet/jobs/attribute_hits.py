"""What an attacker guesses from every candidate release of every user, without asking in vain.

The candidates of one record differ from it in a few entries. So a network's first layer is
computed once a record, and for each candidate only the weights of the changed entries are added.
Any other attacker is asked about the changed records, those of many users in one call.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import nn

from privet import query
from privet.attacks.attribute import (
    Guess,
    NetworkGuess,
    Records,
    RegionGuess,
    as_inputs,
)
from privet.device.attribute import Candidates
from privet.progress import track
from privet.signals import BoolArray, FloatArray, IntArray
from privet.sparse import SparseInputLinear, feature_rows, take

HIDDEN_BYTES = 16 << 20
"""For the pre-activations computed at a time: what fits into a cache."""
RECORD_BYTES = 256 << 20
"""For the changed records that one call asks about, in dense form or as sparse indices."""


def hits(guess: Guess, records: Records, labels: IntArray, candidates: Candidates) -> BoolArray:
    """Return whether the attacker guesses each user's attribute from each candidate release.

    Parameters
    ----------
    guess
        The attacker. Fully connected networks, alone or in `RegionGuess`, take the short way,
        whose answers are those of asking about the changed records up to float32 rounding.
    records, labels
        The users' unprotected records, and their attributes; shape (users,).
    candidates
        Of these records.

    Returns
    -------
    Shape (users, targets).
    """
    return np.asarray(guessed(guess, records, candidates) == labels[:, None])


def guessed(guess: Guess, records: Records, candidates: Candidates) -> IntArray:
    """Return the attribute guessed from each candidate release; shape (users, targets)."""
    halves = _halves(guess.model) if isinstance(guess, NetworkGuess | RegionGuess) else None
    if halves is not None and isinstance(guess, NetworkGuess):
        return _by_network(halves, records, candidates)
    if halves is not None and isinstance(guess, RegionGuess):
        said = [
            _by_network(halves, change(records), _without(candidates, change.untouched))
            for change in track(guess.changes, "asking about neighbors")
        ]
        return guess.vote(said)
    return _by_records(guess, records, candidates)


def perturbed(records: Records, candidates: Candidates, users: slice) -> Records:
    """Return every candidate release of some users, shape (users * targets, features).

    The rows of one user follow each other in the order of the targets; layout and dtype are those
    of ``records``.
    """
    targets, features = candidates.reached.shape[1], records.shape[1]
    each = records[np.repeat(np.arange(records.shape[0])[users], targets)]
    row, feature, value = _changes(candidates, users)
    if isinstance(records, np.ndarray):
        each[row, feature] = value
        return each
    old = each.tocoo()
    stays = ~np.isin(old.row.astype(np.int64) * features + old.col, row * features + feature)
    row, feature = np.append(old.row[stays], row), np.append(old.col[stays], feature)
    data = np.append(old.data[stays], value.astype(records.dtype))
    changed = type(records)((data, (row, feature)), shape=each.shape)
    changed.eliminate_zeros()
    return changed


def entries(records: Records, row: IntArray, feature: IntArray) -> FloatArray:
    """Return the entries of ``records`` at some places; shape (places,)."""
    if not len(row):
        return np.zeros(0, np.float32)  # of no places SciPy returns a matrix
    return np.asarray(records[row, feature]).ravel()


def _changes(candidates: Candidates, users: slice) -> tuple[IntArray, IntArray, NDArray[Any]]:
    """Return (row of `perturbed`, feature, new value) of every change for some users."""
    targets = candidates.reached.shape[1]
    ends = candidates.start[users.start * targets : users.stop * targets + 1]
    row = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    part = slice(ends[0], ends[-1])
    return row, candidates.feature[part], candidates.value[part]


def _without(candidates: Candidates, kept: BoolArray) -> Candidates:
    """Return the candidates without the changes of features that are not kept."""
    stays = kept[candidates.feature]
    start = np.append(0, np.cumsum(stays))[candidates.start]
    feature, value = candidates.feature[stays], candidates.value[stays]
    return replace(candidates, start=start, feature=feature, value=value)


def _by_records(guess: Guess, records: Records, candidates: Candidates) -> IntArray:
    users, targets = candidates.reached.shape
    dense = isinstance(records, np.ndarray)
    # A sparse entry takes a float and, while it is sorted, some three 64-bit numbers.
    row = 4 * records.shape[1] if dense else 28 * (2 + records.nnz // users)
    said = [
        np.asarray(guess(perturbed(records, candidates, part))).reshape(-1, targets)
        for part in track(_parts(users, targets * row, RECORD_BYTES), "asking about releases")
    ]
    return np.concatenate(said)


def _by_network(
    halves: tuple[nn.Linear, nn.Module], records: Records, candidates: Candidates
) -> IntArray:
    users, targets = candidates.reached.shape
    first, rest = halves
    inputs, weight = as_inputs(records), _feature_rows(first)
    row, feature, value = _changes(candidates, slice(0, users))
    change = value - entries(records, row // targets, feature)
    starts = candidates.start - candidates.start[0]
    shape = users * targets, records.shape[1]
    changes = sparse.csr_array((change.astype(np.float32), feature, starts), shape=shape)
    said = np.empty((users, targets), np.int64)
    parts = _parts(users, 4 * targets * first.out_features, HIDDEN_BYTES)
    with query.evaluating(rest):
        for part in track(parts, "asking about releases"):
            before = first(take(inputs, np.arange(part.start, part.stop))).numpy()
            after = changes[part.start * targets : part.stop * targets] @ weight
            hidden = after.reshape(len(before), targets, -1)
            hidden += before[:, None]
            said[part] = rest(torch.from_numpy(hidden)).argmax(-1).numpy()
    return said


def _parts(users: int, bytes_each: int, most: int) -> list[slice]:
    """Cut users into slices that need at most so many bytes, but hold one user at least."""
    size = max(1, most // bytes_each)
    return [slice(low, min(low + size, users)) for low in range(0, users, size)]


def _halves(model: nn.Module) -> tuple[nn.Linear, nn.Module] | None:
    """Return a model's first linear layer and what follows it; None unless it starts with one."""
    modules = list(model) if isinstance(model, nn.Sequential) else []
    # Dropout before it does nothing when the model is asked.
    place = next((i for i, each in enumerate(modules) if not isinstance(each, nn.Dropout)), 0)
    first = modules[place] if modules else model
    if not isinstance(first, nn.Linear) or first is model:
        return None
    weight = first.weight
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return (first, nn.Sequential(*modules[place + 1 :])) if on_cpu else None


def _feature_rows(layer: nn.Linear) -> NDArray[np.float32]:
    """Return the weights of each feature, shape (features, units), in one piece."""
    if isinstance(layer, SparseInputLinear):
        layer.flush()
        return feature_rows(layer.weight)
    return np.ascontiguousarray(layer.weight.detach().numpy().T)

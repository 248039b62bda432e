"""One case of a bundle's self-test, and how the bundle's document writes it down."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from privet.device.network import Array, Float64
from privet.errors import DataError

MOST_CASES = 8


@dataclass(frozen=True)
class Case:
    """A made-up record, and what a bundle makes of it under the self-test's public key.

    Parameters
    ----------
    record, release
        Attribute: (feature, value) of every entry above 0, ascending by feature. Membership: all
        confidences.
    budget
        What `Bundle.protect` was asked to keep to.
    posterior
        What `Bundle.posterior` says of the unchanged record: a number a class, or a single one.
    """

    record: tuple[Any, ...]
    budget: float
    release: tuple[Any, ...]
    posterior: tuple[float, ...]


def entries(record: Array) -> tuple[tuple[int, float], ...]:
    """Return the entries of a record that are not 0, ascending by feature."""
    present = np.flatnonzero(record)
    return tuple(zip(present.tolist(), record[present].tolist(), strict=True))


def dense(kind: str, record: Sequence[Any], features: int) -> Float64:
    """Return a case's record or release as shape (features,)."""
    if kind == "membership":
        return np.array(record, dtype=np.float64)
    values = np.zeros(features)
    for feature, value in record:
        values[feature] = value
    return values


def to_document(kind: str, case: Case) -> dict[str, Any]:
    """Return a case as JSON can hold it."""
    members = kind == "membership"
    return {
        "confidences" if members else "record": case.record,
        "budget": case.budget,
        "release": case.release,
        "posterior": case.posterior[0] if members else case.posterior,
    }


def from_document(kind: str, sizes: Sequence[int], value: Any) -> tuple[Case, ...]:
    """Return the cases that a document lists, for a bundle of such a kind and layers.

    Raises
    ------
    DataError
        On anything but at most `MOST_CASES` whole cases that fit the bundle; names the case.
    """
    if not isinstance(value, list) or len(value) > MOST_CASES:
        raise DataError(f"its self_test must be a list of at most {MOST_CASES} cases")
    read = _read_membership if kind == "membership" else _read_attribute
    cases = []
    for number, each in enumerate(value):
        case = read(each, sizes) if isinstance(each, dict) else None
        if case is None:
            raise DataError(f"case {number} of its self_test does not fit the {kind} bundle")
        cases.append(case)
    return tuple(cases)


def _read_attribute(case: Mapping[str, Any], sizes: Sequence[int]) -> Case | None:
    """Return a case of ratings, None where anything about it is wrong."""
    if set(case) != {"record", "budget", "release", "posterior"}:
        return None
    ratings = (case["record"], case["release"])
    if not all(_are_ratings(each, sizes[0]) for each in ratings):
        return None
    budget, posterior = case["budget"], case["posterior"]
    if not (_is_share(budget, math.inf) and budget > 0 and _are_shares(posterior, sizes[-1])):
        return None
    record, release = (tuple((at, float(x)) for at, x in each) for each in ratings)
    return Case(record, float(budget), release, tuple(map(float, posterior)))


def _read_membership(case: Mapping[str, Any], sizes: Sequence[int]) -> Case | None:
    """Return a case of confidences, None where anything about it is wrong."""
    if set(case) != {"confidences", "budget", "release", "posterior"}:
        return None
    record, release = case["confidences"], case["release"]
    if not all(_are_shares(x, sizes[0]) and abs(sum(x) - 1) <= 1e-3 for x in (record, release)):
        return None
    if not (_is_share(case["budget"], math.inf) and _is_share(case["posterior"])):
        return None
    vectors = (tuple(map(float, x)) for x in (record, release))
    return Case(next(vectors), float(case["budget"]), next(vectors), (float(case["posterior"]),))


def _are_ratings(value: Any, features: int) -> bool:
    """Tell whether ``value`` lists [feature, value], ascending, all above 0 and at most 1."""
    if not isinstance(value, list) or not all(isinstance(x, list) and len(x) == 2 for x in value):
        return False
    at = [feature for feature, _ in value]
    if not all(type(feature) is int and 0 <= feature < features for feature in at):
        return False
    ascending = all(before < after for before, after in pairwise(at))
    return ascending and all(_is_share(x) and x > 0 for _, x in value)


def _are_shares(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(_is_share, value))


def _is_share(value: Any, most: float = 1.0) -> bool:
    """Tell whether ``value`` is a number, and no truth value, in 0..``most``."""
    return type(value) in (int, float) and 0 <= value <= most

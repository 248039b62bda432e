"""Algorithm 1, phase II: which candidate to release, decided once and for all.

`least_divergence` solves SP-ASPP equation (6) in closed form; `uniform` is the one-time
randomness that keeps repeated questions about the same record from averaging the noise away.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from privet.device.matrices import Records, as_rows, is_sparse, one_for_each
from privet.device.network import Array, Float64, Ints
from privet.errors import DataError, OptionError

KEY_BYTES = 32
NEGLIGIBLE = 1e-18  # a prior this small counts as zero, lest the root drown in rounding
_DOMAIN = b"privet one-time randomness 1\n"


def least_divergence(prior: ArrayLike, costs: ArrayLike, budget: ArrayLike) -> Float64:
    """Choose probabilities over the candidates, closest to ``prior``, that keep to the budget.

    Minimizes KL(prior || psi) subject to ``sum(psi * costs) <= budget`` and ``sum(psi) = 1``, for
    each record. Where the prior itself is within budget it is the answer. Elsewhere the KKT
    conditions give ``psi = p / (1 + mu (c - budget))`` with the one mu > 0 at which the expected
    cost equals the budget. We solve for ``s = 1 - mu (budget - min c)`` in [0, 1] instead, in which
    the pole sits at 0 and nothing cancels, and return the side of the root that is within budget.

    A target of prior 0 adds nothing to the divergence and gets probability 0, with one
    exception: where even s = 0 leaves mass over, all that is left goes to the cheapest target.

    Parameters
    ----------
    prior
        Shape (targets,), or (n, targets) for one a record: the label distribution that an
        attacker shall see; sums to 1.
    costs
        Shape (n, targets), finite, not negative.
    budget
        One number, or one a record: the largest expected cost.

    Returns
    -------
    Shape (n, targets), float64; rows sum to 1.

    Raises
    ------
    OptionError
        When the cheapest candidate of some record does not cost less than its budget; the message
        names the first such record and its least budget.
    """
    c = np.asarray(costs, dtype=np.float64)
    if c.ndim != 2 or not (np.isfinite(c) & (c >= 0)).all():
        raise DataError(f"costs must be a finite, non-negative matrix; got shape {c.shape}")
    p = check_prior(prior, c.shape[1], n=len(c))
    p = p / p.sum(axis=-1, keepdims=True)
    beta = one_for_each(budget, len(c), "budget")[:, None]
    psi = np.array(np.broadcast_to(p, c.shape))
    binding = (c * psi).sum(axis=1) > beta[:, 0]
    if not binding.any():
        return psi
    cheapest = c.min(axis=1, keepdims=True)
    impossible = np.flatnonzero(binding & (cheapest >= beta)[:, 0])
    if impossible.size:
        row = int(impossible[0])
        raise OptionError(
            f"record {row} cannot keep to a budget of {beta[row, 0]:g}: "
            f"its least budget is any number above {cheapest[row, 0]:g}"
        )
    psi[binding] = _solve(psi[binding], (c - cheapest)[binding], (beta - cheapest)[binding])
    return psi


def _solve(p: Float64, extra: Float64, room: Float64) -> Float64:
    """Solve rows whose budget binds, given costs and budget above the cheapest candidate."""
    used = p > NEGLIGIBLE

    def shares(s: Float64) -> Float64:
        # Never 0 / 0: used candidates of zero extra cost keep s > 0 through the bisection's upper
        # end, and unused ones are left out.
        return np.where(used, p * room / np.where(used, (1 - s) * extra + s * room, 1.0), 0.0)

    low, high = np.zeros_like(room), np.ones_like(room)
    # Halving [0, 1] first finds the root's exponent, then its 53 bits.
    for _ in range(110):
        middle = 0.5 * (low + high)
        over = (shares(middle) * (extra - room)).sum(axis=1, keepdims=True) > 0
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    psi = shares(low)
    left = np.maximum(0.0, 1.0 - psi.sum(axis=1))
    psi[np.arange(len(psi)), extra.argmin(axis=1)] += left
    return np.asarray(psi / psi.sum(axis=1, keepdims=True))


def check_prior(prior: ArrayLike, targets: int, *, n: int | None = None) -> Float64:
    """Return ``prior`` as float64; `DataError` unless it is a distribution over ``targets``.

    Given ``n``, it may also be one distribution a record, shape (n, targets).
    """
    try:
        p = np.asarray(prior, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"prior must be numbers: {error}") from None
    if p.shape != (targets,) and (n is None or p.shape != (n, targets)):
        shapes = f"({targets},)" if n is None else f"({targets},) or ({n}, {targets})"
        raise DataError(f"prior must have shape {shapes}; got {p.shape}")
    total = p.sum(axis=-1)
    wrong = ~((p >= 0).all(axis=-1) & (abs(total - 1) <= 1e-5))
    if wrong.any():
        whose = f" of record {wrong.argmax()}" if p.ndim == 2 else ""
        raise DataError(
            f"prior{whose} must be probabilities that sum to 1; "
            f"it sums to {np.atleast_1d(total)[wrong.argmax()]:g}"
        )
    return p


def choose(psi: Float64, u: Float64) -> Ints:
    """Return one column a row by inverse distribution function; never one of probability 0.

    ``psi`` has shape (n, targets), ``u`` shape (n,) with values in [0, 1).
    """
    ends = psi.cumsum(axis=1)
    return np.asarray((ends > u[:, None] * ends[:, -1:]).argmax(axis=1))


def default_key() -> Path:
    """Return where this user's secret key lives unless told otherwise.

    The file that PRIVET_KEY names, or one in the user's data folder.
    """
    from platformdirs import user_data_path

    return Path(os.environ.get("PRIVET_KEY", user_data_path("privet") / "key"))


def load_or_create_key(path: Path | str) -> bytes:
    """Return the secret key at ``path``, after creating it from the system's randomness if need be.

    A new key is 32 bytes in a file that only its owner can read. Keep it secret and keep it:
    whoever has it can tell noise from data, and a new key gives new noise for the same data.
    Processes that create the same key at the same time all get the one that was there first.

    Raises
    ------
    OptionError
        When the file has the wrong size, or other users may read it.
    """
    path = Path(path)
    if not path.exists():
        _create_key(path)
    return _load_key(path)


def _create_key(path: Path) -> None:
    """Put a whole new key at ``path``, unless somebody else was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(handle)
        try:
            # Unlike renaming, linking never replaces a key that others may use already.
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def _load_key(path: Path) -> bytes:
    """Read an existing key; see `load_or_create_key`."""
    if path.exists() and not path.is_file():
        raise OptionError(f"key {path} is a folder or a device; name a file")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise OptionError(f"key {path} can be read by other users; run: chmod 600 {path}")
    with path.open("rb") as file:
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise OptionError(f"key {path} is not {KEY_BYTES} bytes long; name another file")
    return key


def uniform(key: bytes, records: Records) -> Float64:
    """Return one number in [0, 1) a record: the same for the same record and key, for ever.

    HMAC-SHA256 under ``key`` of the record's non-zero entries, as little-endian uint32 indices
    followed by little-endian float32 values; its first 53 bits over 2**53. So dense and sparse
    forms, every float width, 0.0 and -0.0, and NaN of either sign agree.

    Parameters
    ----------
    key
        32 secret bytes.
    records
        Shape (n, features), dense or SciPy sparse; the latter is never made dense.

    Returns
    -------
    Shape (n,), float64.
    """
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise OptionError(f"key must be {KEY_BYTES} bytes, e.g. from load_or_create_key")
    rows = as_rows(records, np.shape(records)[-1])
    return np.array([_number(key, *entries) for entries in _entries(rows)])


def _entries(rows: Records) -> Iterator[tuple[Ints, Array]]:
    """Yield columns, ascending, and values of each row; all that are not 0 are among them."""
    if is_sparse(rows):
        rows = rows.copy()  # what follows sorts in place
        rows.sum_duplicates()
        for start, end in pairwise(rows.indptr):
            yield rows.indices[start:end], rows.data[start:end]
    else:
        columns = np.arange(rows.shape[1])
        for row in rows:
            yield columns, row


def _number(key: bytes, columns: Ints, values: Array) -> float:
    values = values.astype("<f4")
    present = np.flatnonzero(values)
    columns, values = columns[present], values[present]
    values[np.isnan(values)] = np.nan  # of all its bit patterns one
    message = _DOMAIN + columns.astype("<u4").tobytes() + values.tobytes()
    digest = hmac.new(key, message, hashlib.sha256).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53

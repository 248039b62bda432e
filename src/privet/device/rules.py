"""What a person lets Algorithm 1 change: which entries of a record, and to which values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from privet.device.matrices import Records, is_sparse, take
from privet.device.network import Array, Bools, Float32, Float64, Ints
from privet.errors import OptionError

Policy = Literal["modify_add", "modify_exist", "add_new"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True, eq=False)
class Rules:
    """Limits to the changes of a record; what is None says nothing and leaves it to the default.

    A change promises its size times the gradient, which is linear in the new value: of all legal
    values of a feature only the lowest or the highest can promise most. So ``low`` and ``high``
    are all there is to say of binary features, of ratings in steps of 0.2, or of any other finite
    set: where the original values were legal, all released values are.

    Parameters
    ----------
    policy
        AttriGuard's policies: ``"modify_exist"`` changes only entries above 0 in the original
        record (down to 0 included, where that is legal), ``"add_new"`` only entries of 0, and
        ``"modify_add"``, the default and the paper's choice, both.
    keep
        True where an entry must stay as it is: shape (features,), or (n, features), dense or
        SciPy sparse. By default none must.
    low, high
        The lowest and highest legal value, in [0, 1]; one number, by default 0 and 1, or one a
        feature.
    never
        Features that stay as they are in every record, beside what ``keep`` says: those that too
        few training users had for their weights to mean anything.

    Raises
    ------
    OptionError
        On a policy of another name.
    """

    policy: Policy | None = None
    keep: Records | None = None
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    never: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.policy is not None and self.policy not in POLICIES:
            raise OptionError(f"policy must be one of {', '.join(POLICIES)}; got {self.policy!r}")
        never = np.asarray(() if self.never is None else self.never)
        if never.size and (never.ndim != 1 or never.dtype.kind not in "iu"):
            raise OptionError(f"never must be a list of feature numbers; got {self.never!r}")
        if self.never is not None:
            object.__setattr__(self, "never", tuple(never.tolist()))

    def over(self, default: "Rules") -> "Rules":
        """Return these rules, filled up with those of ``default`` where they say nothing.

        What either of them never changes stays as it is.
        """
        return Rules(
            policy=default.policy if self.policy is None else self.policy,
            keep=default.keep if self.keep is None else self.keep,
            low=default.low if self.low is None else self.low,
            high=default.high if self.high is None else self.high,
            never=tuple(sorted({*(self.never or ()), *(default.never or ())})),
        )

    def legal_values(self, features: int) -> tuple[Float64, Float64]:
        """Return the lowest and the highest legal value of every feature; shape (features,) each.

        Raises
        ------
        OptionError
            Unless ``low`` and ``high`` are one number, or one a feature, 0 <= low <= high <= 1.
        """
        low = _one_a_feature(0.0 if self.low is None else self.low, features, "low")
        high = _one_a_feature(1.0 if self.high is None else self.high, features, "high")
        if (low > high).any():
            worst = int((low > high).argmax())
            raise OptionError(
                f"the lowest legal value of feature {worst} is {low[worst]:g}, above its "
                f"highest, {high[worst]:g}; swap them"
            )
        return low, high


def features_named(
    wanted: Sequence[str], features: int, names: Sequence[str] | None = None
) -> Bools:
    """Return a mask of features that a person calls by name or number; shape (features,).

    Names are compared without blanks around them, as everywhere.

    Raises
    ------
    OptionError
        On what is neither a name nor a number of a feature.
    """
    known = {str(number): number for number in range(features)}
    known |= {name.strip(): number for number, name in enumerate(names or ())}
    mask = np.zeros(features, np.bool_)
    for name in wanted:
        if name.strip() not in known:
            raise OptionError(
                f"there is no feature {name[:40]!r}; give names of the bundle's features, or "
                f"numbers in 0..{features - 1}"
            )
        mask[known[name.strip()]] = True
    return mask


def _one_a_feature(value: ArrayLike, features: int, what: str) -> Float64:
    """Return ``value`` as shape (features,), all in [0, 1]."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(f"{what} must be numbers: {error}") from None
    if numbers.shape not in ((), (features,)):
        raise OptionError(
            f"{what} must be one number or {features}, one a feature; got shape {numbers.shape}"
        )
    wrong = ~((numbers >= 0) & (numbers <= 1))
    if wrong.any():
        raise OptionError(f"{what} must lie in 0..1; got {numbers[wrong].flat[0]:g}")
    return np.broadcast_to(numbers, (features,))


@dataclass(frozen=True, eq=False)
class Limits:
    """Rules worked out for the records at hand.

    Parameters
    ----------
    policy, low, high
        As in `Rules`; ``low`` and ``high`` have one value more than there are features, 0, for
        the padding behind them.
    fixed
        Shape (features,): which features no record may change.
    own
        Shape (n, features) or None: which entries a record may not change besides.
    """

    policy: Policy
    low: Float64
    high: Float64
    fixed: Bools
    own: Records | None

    @property
    def reach(self) -> Float32:
        """By how much an entry of 0 can grow, as far as no record says otherwise; (features,)."""
        shut = self.fixed | (self.policy == "modify_exist")
        return np.asarray(np.where(shut, 0, self.high[:-1]), dtype=np.float32)

    def exact(self, feature: Ints, value: Float32) -> Float64:
        """Return the legal values of some features that float32 values stand for.

        In full precision: 0.8 rounded to float32 would stand out among a person's own scores.
        """
        high, low = self.high[feature], self.low[feature]
        return np.where(value == high.astype(np.float32), high, low)

    def within(self, features: Ints, users: Ints) -> "Limits":
        """Return the limits of some features, for some records."""
        padded = np.append(features, len(self.fixed))
        own = None if self.own is None else take(self.own, users)[:, features]
        return Limits(self.policy, self.low[padded], self.high[padded], self.fixed[features], own)

    def listed(self, block: Array, users: Ints) -> tuple[Bools, Bools]:
        """Tell which entries of some records need a look of their own, and which may change.

        Listed are entries that are not 0 and those that their own record keeps: what `reach` says
        holds for all others.
        """
        present = block != 0
        own = np.zeros_like(present) if self.own is None else take(self.own, users).astype(np.bool_)
        free = ~(own | self.fixed)
        if self.policy != "modify_add":
            free &= present == (self.policy == "modify_exist")
        return present | own, free


def work_out(rules: Rules, rows: Records) -> Limits:
    """Fill in the defaults and check that the rules fit the records, as `as_rows` gives them.

    Raises
    ------
    OptionError
        On a mask of the wrong shape or type, on legal values that are none, or that records of
        whole numbers cannot hold.
    """
    n, features = rows.shape
    if rows.dtype == np.float16:
        raise OptionError("float16 cannot hold ratings such as 0.8; give records as float32")
    low, high = rules.legal_values(features)
    whole = rows.dtype.kind in "iub"
    if whole and (np.isin([low, high], (0, 1)) == 0).any():
        raise OptionError("records of whole numbers can hold 0 and 1 only; give them as floats")
    keep: Records = np.zeros(features, np.bool_) if rules.keep is None else rules.keep
    if is_sparse(keep):
        keep = keep.tocsr() if len(keep.shape) == 2 else keep.toarray()
    else:
        keep = np.asarray(keep)
    if keep.dtype.kind != "b" or keep.shape not in ((features,), (n, features)):
        raise OptionError(
            f"keep must be True and False of shape ({features},) or ({n}, {features}); "
            f"got {keep.dtype} of shape {keep.shape}"
        )
    own = keep if keep.ndim == 2 else None
    fixed = np.zeros(features, np.bool_) if keep.ndim == 2 else keep.copy()
    never = np.array(rules.never or (), dtype=np.intp)
    if never.size and not 0 <= never.min() <= never.max() < features:
        wrong = never[(never < 0) | (never >= features)][0]
        raise OptionError(f"never must name features in 0..{features - 1}; got {wrong}")
    fixed[never] = True
    return Limits(
        policy=rules.policy or "modify_add",
        low=np.append(low, 0.0),
        high=np.append(high, 0.0),
        fixed=fixed,
        own=own,
    )

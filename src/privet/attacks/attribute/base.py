"""What every attribute attacker is: a frozen dataclass with a citation and one method."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privet.errors import DataError, OptionError
from privet.seeds import generator
from privet.signals import IntArray

if TYPE_CHECKING:
    from privet.sparse import Inputs

Records = Any
"""Shape (users, features), values in [0, 1]: a float32 array or a SciPy CSR matrix."""
Rows = NDArray[np.int64]
Guess = Callable[[Records], IntArray]
"""From records to the attribute of each user, shape (users,)."""
Protect = Callable[[Records, int], Records]
"""The defense at hand: from records and a seed to their protected releases, same shape and type.

Another seed draws other noise from the same distribution."""


@dataclass(frozen=True, eq=False)
class Known:
    """What an attacker knows before it guesses.

    Parameters
    ----------
    records, labels
        Users' records, and their attributes in ``0 .. classes - 1``, at least two of which occur.
    classes
        Number of attributes.
    protect
        The defense that those who are guessed about may use; None where it is not at hand.
    """

    records: Records
    labels: IntArray
    classes: int
    protect: Protect | None = None

    @property
    def protection(self) -> Protect:
        """The defense; `OptionError` where it is not at hand."""
        if self.protect is None:
            raise OptionError(
                "this attacker learns from protected records; give it the defense "
                "(in Python `protect`, on the command line --bundle and --budget)"
            )
        return self.protect


class AttributeAttacker(Protocol):
    """An attribute inference attack."""

    @property
    def paper(self) -> str:
        """The publication that the attack comes from."""

    @property
    def needs_protection(self) -> bool:
        """Whether the attack learns from protected records, and so needs `Known.protect`."""

    def fit(self, known: Known, *, seed: int) -> Guess:
        """Learn from users whose attribute is known, and return what guesses it of others.

        ``seed`` fixes everything that chance decides. The guess about a record depends on that
        record alone, not on the others asked about with it.
        """


def hold_out(count: int, share: float, seed: int, *, what: str) -> tuple[Rows, Rows]:
    """Return the rows of a random share of users, and those of the others.

    Raises
    ------
    DataError
        When there is no user to hold out of ``what``.
    """
    order = generator(seed, "users").permutation(count)
    held = round(share * count)
    if held < 1:
        raise DataError(f"{what} has {count} users: too few to hold out {share:.0%}")
    return order[:held], order[held:]


def as_inputs(records: Records) -> "Inputs":
    """Return records as the training loop takes them."""
    if not isinstance(records, np.ndarray):
        return records.tocsr()  # type: ignore[no-any-return]
    import torch

    return torch.from_numpy(records)

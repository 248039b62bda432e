"""How sparse each round of iterative pruning is."""

from typing import Literal, get_args

from privet.errors import OptionError

Schedule = Literal["geometric", "linear"]


def sparsities(schedule: Schedule, sparsity: float, rounds: int) -> list[float]:
    """Return the sparsity after each round k = 0 .. n-1.

    Round 0 fine-tunes the dense model and the last round reaches ``sparsity``; a single round
    prunes at once.

    Parameters
    ----------
    schedule
        With "geometric", ``1 - (1 - s) ** (k / (n - 1))``: what remains shrinks by the same
        factor each round (WeMem's schedule). With "linear", ``s * k / (n - 1)``: each round
        removes the same amount.
    sparsity
        The fraction removed in the end, in [0, 1).
    rounds
        Number of rounds n, at least 1.

    Raises
    ------
    OptionError
        When an argument is none of these.
    """
    if schedule not in get_args(Schedule):
        raise OptionError(
            f"schedule must be one of {', '.join(get_args(Schedule))}; got {schedule!r}"
        )
    if not 0 <= sparsity < 1:
        raise OptionError(f"sparsity must lie in [0, 1), a fraction removed; got {sparsity}")
    if rounds < 1:
        raise OptionError(f"rounds must be at least 1; got {rounds}")
    if rounds == 1:
        return [sparsity]
    shares = [k / (rounds - 1) for k in range(rounds)]
    if schedule == "linear":
        return [sparsity * share for share in shares]
    return [1 - (1 - sparsity) ** share for share in shares]

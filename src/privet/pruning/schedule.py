"""How sparse each round of iterative pruning is."""

from privet.errors import OptionError


def geometric(sparsity: float, rounds: int) -> list[float]:
    """Return the sparsity after each round: ``1 - (1 - s) ** (k / (n - 1))`` for k = 0 .. n-1.

    The share of weights that remain shrinks by the same factor each round; round 0 fine-tunes
    the dense model and the last round reaches ``sparsity`` (WeMem's schedule). A single round
    prunes at once.

    Raises
    ------
    OptionError
        Unless ``0 <= sparsity < 1`` and ``rounds >= 1``.
    """
    if not 0 <= sparsity < 1:
        raise OptionError(f"sparsity must lie in [0, 1), a fraction removed; got {sparsity}")
    if rounds < 1:
        raise OptionError(f"rounds must be at least 1; got {rounds}")
    if rounds == 1:
        return [sparsity]
    return [1 - (1 - sparsity) ** (k / (rounds - 1)) for k in range(rounds)]

"""From a speed-up to exact widths of a fully connected network."""

from collections.abc import Sequence

from privet.errors import OptionError
from privet.models import macs


def widths_at(
    inputs: int, hidden: Sequence[int], outputs: int, *, speedup: float, least: int = 4
) -> tuple[int, ...]:
    """Return the widest hidden layers whose speed-up is at least ``speedup``.

    Speed-up is base MACs / pruned MACs, counting matrix products only. All layers shrink by the
    same factor: ranking units across layers can leave a layer with a single unit, and such a
    defense model finds no noise at all. Then single units are given back, last layer first,
    while the speed-up holds.

    Parameters
    ----------
    least
        Fewest units of a layer.

    Raises
    ------
    OptionError
        When the speed-up is below 1, or out of reach with ``least`` units a layer.
    """
    if not speedup >= 1:
        raise OptionError(f"a speed-up must be at least 1; got {speedup}")
    # The slack is rounding's: 33 MACs at 1.1 times leave room for 30.
    allowed = macs([inputs, *hidden, outputs]) / speedup * (1 + 1e-12)

    def fits(widths: Sequence[int]) -> bool:
        return macs([inputs, *widths, outputs]) <= allowed

    def scaled(factor: float) -> list[int]:
        return [min(units, max(least, int(units * factor))) for units in hidden]

    if not fits(scaled(0.0)):
        most = macs([inputs, *hidden, outputs]) / macs([inputs, *scaled(0.0), outputs])
        raise OptionError(
            f"a speed-up of {speedup:g} is out of reach with {least} units a layer; "
            f"the most is {most:.4g}"
        )
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(scaled(middle)) else (low, middle)
    widths = scaled(low) if not fits(hidden) else list(hidden)
    for layer in reversed(range(len(widths))):
        while widths[layer] < hidden[layer]:
            widths[layer] += 1
            if not fits(widths):
                widths[layer] -= 1
                break
    return tuple(widths)

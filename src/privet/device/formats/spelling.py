"""Numbers as text, one spelling each: an entry spelled otherwise would betray the noise."""

from collections.abc import Callable

MOST = 10_000  # remembered spellings; ratings have few, confidences one a cell


class Spelling(dict[float, str]):
    """Remembers how numbers are spelled, so that ratings are spelled once and not once a cell.

    Zero has one spelling, whatever its sign.
    """

    def __init__(self, spell: Callable[[float], str]) -> None:
        super().__init__()
        self._spell = spell

    def __missing__(self, value: float) -> str:
        text = self._spell(value + 0.0)
        if len(self) < MOST:
            self[value] = text
        return text


def shortest(value: float) -> str:
    """Spell a number as short as it reads back exactly: 1, 0, 0.2."""
    return str(value).removesuffix(".0")


def number(text: str) -> float:
    """Return the number that ``text`` spells, NaN if none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def is_word(text: str) -> bool:
    """Tell whether a cell is neither empty nor a number, ``nan`` included."""
    try:
        float(text)
    except ValueError:
        return bool(text.strip())
    return False

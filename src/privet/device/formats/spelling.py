"""Numbers as text, one spelling each: an entry spelled otherwise would betray the noise."""

import re
from collections.abc import Callable, Iterable

MOST = 10_000  # remembered spellings; ratings have few, confidences one a cell
BLANKS = " \t\n\v\f\r"
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


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
    """Return the number that ``text`` spells, NaN if none.

    A number is made of the digits 0 to 9, with or without a point among or beside them, a sign
    before, and an exponent behind: 1, -0.5, .5, 5., 2e-1, +1E3. ASCII blanks may surround it.
    Underscores, digits of other scripts, ``inf`` and ``nan`` are none.
    """
    plain = text.strip(BLANKS)
    return float(plain) if _NUMBER.fullmatch(plain) else float("nan")


def is_plain(texts: Iterable[str]) -> bool:
    """Tell whether ``float`` makes nothing of texts that `number` does not, but inf and nan."""
    return all(text.isascii() and "_" not in text for text in texts)


def is_word(text: str) -> bool:
    """Tell whether a cell is neither empty nor a number in any script, ``nan`` included.

    So a record of numbers that `number` refuses is no header, which would pass unprotected.
    """
    try:
        float(text)
    except ValueError:
        return bool(text.strip())
    return False

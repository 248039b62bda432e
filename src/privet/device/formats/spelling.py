"""Numbers as text, one spelling each: an entry spelled otherwise would betray the noise."""

import re
from collections.abc import Iterable
from functools import lru_cache

BLANKS = " \t\n\v\f\r"
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def shortest(value: float) -> str:
    """Spell a number as short as it reads back exactly: 1, 0, 0.2; zero has no sign."""
    return str(value + 0.0).removesuffix(".0")


# Ratings take few values, which are spelled once and not once a cell; confidences take many.
remembered = lru_cache(10_000)(shortest)


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

"""Randomness: one seed a run, one independent stream for each named purpose.

Streams are addressed by name instead of drawn in sequence, so work that resumes, is skipped, or
runs in another process still sees the same random numbers.
"""

from zlib import crc32

import numpy as np

from privet.errors import OptionError


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose, e.g. ``derive(7, "shadow", 3)``.

    Equal arguments give equal seeds, on every platform; different purposes give independent
    streams (NumPy's ``SeedSequence``).
    """
    keys = [part if isinstance(part, int) else crc32(part.encode()) for part in purpose]
    if seed < 0 or min(keys, default=0) < 0:
        raise OptionError(f"seeds and the numbers of purposes start at 0; got {seed}, {purpose}")
    # The spawn key, unlike more words of entropy, tells ("x",) from ("x", 0).
    state = np.random.SeedSequence(seed, spawn_key=keys).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return NumPy's generator for one purpose of a seeded run (see `derive`)."""
    return np.random.default_rng(derive(seed, *purpose))

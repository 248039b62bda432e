"""Made-up data that stands in where no download is wanted.

Nobody is described by it, and no figure measured on it says anything about a real dataset. Both
generators are tuned so that the privacy problem privet is about can be seen at a small size.
"""

import numpy as np
from scipy import sparse

from privet.data.table import Table
from privet.seeds import generator

_POPULARITY = -0.8  # exponent of the items' popularity over their rank
_ACTIVITY = 20.0  # median number of items a user is drawn to
_PREFERENCE = 0.55  # log-scale spread of a class's taste for single items
_NOISE = 0.41  # share of a purchase vector's bits that differ from its prototype
_SCORES = np.array([0.2, 0.4, 0.6, 0.8, 1.0], dtype=np.float32)
_SCORE_SHARES = (0.05, 0.06, 0.09, 0.15, 0.65)


def synthetic_ratings(
    seed: int, *, users: int = 4000, features: int = 500, classes: int = 8
) -> Table:
    """Make sparse app ratings from which a private class can be guessed: attribute protection.

    Every item has a popularity, falling as a power of its rank; every class multiplies it by its
    own taste for the item; every user is drawn to about twenty items and scores those with 0.2 to
    1.0, mostly 1.0, whatever the class. So the class shows only in which items are rated, and a
    linear classifier finds 60 to 80 % of them.

    Returns
    -------
    Table
        float32 CSR of shape (users, features), classes drawn evenly, and a ``test`` table of a
        quarter as many other users.
    """
    rng = generator(seed, "synthetic ratings")
    popularity = rng.permutation(np.arange(1.0, features + 1) ** _POPULARITY)
    taste = popularity * np.exp(_PREFERENCE * rng.standard_normal((classes, features)))
    taste /= taste.sum(axis=1, keepdims=True)

    def draw(rows: int, name: str, test: Table | None) -> Table:
        labels = rng.integers(classes, size=rows)
        activity = _ACTIVITY * np.exp(0.5 * rng.standard_normal((rows, 1)))
        rated = rng.random((rows, features)) < -np.expm1(-activity * taste[labels])
        inputs = sparse.csr_array(rated, dtype=np.float32)
        inputs.data = rng.choice(_SCORES, size=inputs.nnz, p=_SCORE_SHARES)
        return Table(inputs, labels, classes=classes, name=name, test=test)

    test = draw(max(users // 4, 1), "synthetic-ratings (test)", None)
    return draw(users, "synthetic-ratings", test)


def synthetic_purchases(
    seed: int, *, n: int = 6000, features: int = 300, classes: int = 30
) -> Table:
    """Make binary purchase vectors that a network overfits: pruning and membership protection.

    Every class has a random prototype; a vector is its class's prototype with 41 % of its bits
    flipped. A network trained on 40 % of the rows knows those by heart and gets 60 to 70 % of new
    ones right: the gap that membership attacks live on.

    Returns
    -------
    Table
        float32 zeros and ones of shape (n, features), classes drawn evenly, no ``test`` table.
    """
    rng = generator(seed, "synthetic purchases")
    prototypes = rng.random((classes, features)) < 0.5
    labels = rng.integers(classes, size=n)
    inputs = prototypes[labels] ^ (rng.random((n, features)) < _NOISE)
    return Table(inputs.astype(np.float32), labels, classes=classes, name="synthetic-purchases")

"""A bundle's self-test: made-up records with the answers that every implementation must give.

A device of another make, a browser, or a damaged installation shows here that it computes what the
bundle's maker did: when the page opens, or a person asks (`privet protect check`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from privet.device.case import Case, dense, entries
from privet.device.network import Float32, Float64, Network
from privet.device.protect import Bundle
from privet.errors import BundleError, PrivetError

KEY = hashlib.sha256(b"privet self-test 1").digest()  # public: it protects nobody
KEPT = 4  # cases a bundle
DRAWN = 10  # of which these are chosen
MOST_ENTRIES = 12  # of a made-up record
DRAWS = 3  # of slightly other weights, under which a case must come out the same
NUDGE = 1e-6  # of a weight, relative: what float32 rounding does to sums
DECIMALS = 6
BUDGETS = {"attribute": (1.5, 3.0, 5.0), "membership": (0.5, 1.0, 0.2)}
WITHIN = {"attribute": 1e-6, "membership": 1e-3}  # of every released number
POSTERIOR_WITHIN = 1e-4


def make_cases(bundle: Bundle) -> tuple[Case, ...]:
    """Return a bundle's self-test: at most `KEPT` cases, the same ones every time.

    Kept are cases whose answer stays when all weights change by about 1e-6 of themselves; first
    those in which the release differs from the record. There may be none.
    """
    drawn = made_up(bundle)
    cases = _answers(bundle, drawn)
    kept = [True] * len(cases)
    for draw in range(DRAWS):
        near = replace(bundle, network=_nudged(bundle.network, draw))
        others = _answers(near, drawn)
        same = (_same(bundle, *pair, share=0.1) for pair in zip(cases, others, strict=True))
        kept = [before and now for before, now in zip(kept, same, strict=True)]
    chosen = [case for case, keep in zip(cases, kept, strict=True) if keep]
    return tuple(sorted(chosen, key=lambda case: case.record == case.release)[:KEPT])


def run_self_test(bundle: Bundle) -> int:
    """Try every case of a bundle's self-test; return how many there are.

    Raises
    ------
    BundleError
        When an answer differs from the bundle's, naming the case.
    """
    try:
        # Each alone: together they would take more memory than a person's record does.
        answers = [_answers(bundle, [case])[0] for case in bundle.self_test]
    except PrivetError as error:
        raise BundleError(f"the self-test cannot be tried: {error}") from None
    for number, pair in enumerate(zip(bundle.self_test, answers, strict=True)):
        if not _same(bundle, *pair):
            raise BundleError(
                f"case {number} of the self-test has another answer here; do not use this bundle "
                f"on this device, and tell its maker"
            )
    return len(bundle.self_test)


def made_up(bundle: Bundle) -> list[Case]:
    """Return made-up records for a bundle, always the same ones, and budgets; no answers yet."""
    rng = _stream(bundle.kind)
    budgets = np.resize(BUDGETS[bundle.kind], DRAWN).tolist()
    draw = _ratings if bundle.kind == "attribute" else _confidences
    return [Case(draw(bundle, rng), budget, (), ()) for budget in budgets]


def _ratings(bundle: Bundle, rng: Any) -> tuple[tuple[int, float], ...]:
    """Return legal ratings of a few features, mostly of those that may change."""
    low, high = bundle.settings.rules.legal_values(bundle.features)
    free = np.setdiff1d(np.arange(bundle.features), bundle.settings.never)
    among = free if len(free) else np.arange(bundle.features)
    few = rng.integers(1, min(len(among), MOST_ENTRIES) + 1)
    where = np.sort(rng.choice(among, size=few, replace=False))
    record = np.zeros(bundle.features)
    record[where] = np.clip(rng.integers(1, 6, size=few) / 5, low[where], high[where])
    return entries(record)


def _confidences(bundle: Bundle, rng: Any) -> tuple[float, ...]:
    """Return confidences, some sure and some less so, of as many digits as people write."""
    powers = rng.exponential(size=bundle.features) ** rng.uniform(1, 8)
    return _rounded(powers / powers.sum())


def _answers(bundle: Bundle, cases: Sequence[Case]) -> list[Case]:
    """Return the cases with the answers that this implementation gives."""
    records = np.array([dense(bundle.kind, case.record, bundle.features) for case in cases])
    budgets = np.array([case.budget for case in cases])
    releases = bundle.protect(records, budget=budgets, key=KEY).records
    posteriors = bundle.posterior(records).reshape(len(cases), -1)
    written = entries if bundle.kind == "attribute" else _rounded
    return [
        replace(case, release=written(release), posterior=_rounded(posterior))
        for case, release, posterior in zip(cases, releases, posteriors, strict=True)
    ]


def _rounded(values: Float64) -> tuple[float, ...]:
    return tuple(np.round(values, DECIMALS).tolist())


def _same(bundle: Bundle, case: Case, other: Case, *, share: float = 1.0) -> bool:
    """Tell whether two answers to one case agree, to a ``share`` of what is allowed."""
    kind, features = bundle.kind, bundle.features
    if kind == "attribute" and [at for at, _ in case.release] != [at for at, _ in other.release]:
        return False
    releases = (dense(kind, each.release, features) for each in (case, other))
    return _near(*releases, within=share * WITHIN[kind]) and _near(
        np.array(case.posterior), np.array(other.posterior), within=share * POSTERIOR_WITHIN
    )


def _near(one: Float64, other: Float64, *, within: float) -> bool:
    return bool((abs(one - other) <= within).all())


def _nudged(network: Network, draw: int) -> Network:
    """Return the network with all numbers changed by about `NUDGE` of themselves."""
    rng = _stream("nudge", draw)

    def nudge(values: Float32) -> Float32:
        change = rng.standard_normal(values.shape, dtype=np.float32)
        return np.asarray(values * (1 + np.float32(NUDGE) * change), np.float32)

    return Network(tuple(map(nudge, network.weights)), tuple(map(nudge, network.biases)))


def _stream(*purpose: str | int) -> Any:
    """Return the NumPy generator for one purpose of the self-test."""
    # Generators take a while to load, and whoever just applies a bundle needs none.
    from privet.seeds import generator

    return generator(0, "self-test", *purpose)

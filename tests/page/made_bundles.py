"""Made-up attribute bundles and people for the page's core, and how to hand them to a browser."""

import base64

import numpy as np

from privet.device import Bundle, Network, Settings, write_bundle

KEY = bytes(range(7, 39))


def make_network(sizes, seed=0):
    """A network of random weights, some of which are 0."""
    rng = np.random.default_rng(seed)
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    weights = [rng.normal(0, np.sqrt(4 / s[1]), s) * (rng.random(s) < 0.9) for s in shapes]
    biases = [rng.normal(0, 0.1, s[0]) for s in shapes]
    return Network(
        tuple(w.astype(np.float32) for w in weights), tuple(b.astype(np.float32) for b in biases)
    )


def make_bundle(sizes=(120, 24, 5), *, seed=0, even=False, **settings):
    """An attribute bundle; its prior is uneven unless ``even``."""
    settings = {"mechanism": "answers", "temperature": 1.3, "leak": 0.2} | settings
    prior = np.random.default_rng(seed).dirichlet(np.ones(sizes[-1]))
    return Bundle(
        kind="attribute",
        network=make_network(sizes, seed),
        prior=None if even else prior,
        settings=Settings(**settings),
        feature_names=tuple(f"app {number}" for number in range(sizes[0])),
        class_names=tuple(f"place {number}" for number in range(sizes[-1])),
        card={"made": "up", "count": 3, "share": 0.5, "list": [True, None, {"__proto__": 1}]},
    )


def make_people(n, features, seed=0):
    """Sparse records in steps of 0.2, float64."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 6, size=(n, features)) / 5
    return scores * (rng.random((n, features)) < 0.08)


def stored(bundle, folder, precision="float32"):
    """The path of a bundle's file, and its bytes as text for the page."""
    path = folder / f"{precision}.bundle"
    write_bundle(bundle, path, precision=precision)
    return path, as_text(path.read_bytes())


def as_text(content):
    """Bytes as base64."""
    return base64.b64encode(content).decode()


def as_ratings(record):
    """A record as the page has it."""
    present = np.flatnonzero(record)
    return {"feature": present.tolist(), "value": record[present].tolist()}


def as_record(ratings, features):
    """What `as_ratings` came from."""
    record = np.zeros(features)
    record[ratings["feature"]] = ratings["value"]
    return record

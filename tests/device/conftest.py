"""Small defense models trained on synthetic people, and a fixed key."""

import numpy as np
import pytest

from privet.device import Network

KEY = bytes(range(32))


def train(x, sizes, slope, *, seed, epochs=60, rate=0.01):
    """Fit a ReLU network by full-batch Adam; ``slope(logits)`` is the loss gradient there."""
    rng = np.random.default_rng(seed)
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    values = [rng.normal(0, np.sqrt(2 / s[1]), s).astype(np.float32) for s in shapes]
    values += [np.zeros(s[0], np.float32) for s in shapes]
    depth = len(shapes)
    first = [np.zeros_like(v) for v in values]
    second = [np.zeros_like(v) for v in values]
    for step in range(1, epochs + 1):
        hidden = [x.astype(np.float32)]
        for layer in range(depth - 1):
            hidden.append(np.maximum(hidden[-1] @ values[layer].T + values[depth + layer], 0))
        delta = slope(hidden[-1] @ values[depth - 1].T + values[-1]) / len(x)
        gradients = [None] * len(values)
        for layer in range(depth - 1, -1, -1):
            gradients[layer] = delta.T @ hidden[layer]
            gradients[depth + layer] = delta.sum(axis=0)
            delta = (delta @ values[layer]) * (hidden[layer] > 0)
        for v, g, m, s in zip(values, gradients, first, second, strict=True):
            m += 0.1 * (g - m)
            s += 0.001 * (g * g - s)
            v -= rate * m / (1 - 0.9**step) / (np.sqrt(s / (1 - 0.999**step)) + 1e-8)
    return Network(tuple(values[:depth]), tuple(values[depth:]))


def make_ratings(n, *, features, classes, seed):
    """Sparse ratings in {0, .2, ..., 1}; each class prefers some features."""
    rng = np.random.default_rng(seed)
    taste = np.random.default_rng(99).random((classes, features)) ** 6 + 0.02
    label = rng.integers(classes, size=n)
    likes = rng.random((n, features)) < 12 * taste[label] / taste.sum(axis=1)[label, None]
    scores = rng.integers(1, 6, size=(n, features)) / 5
    return (likes * scores).astype(np.float32), label


def make_logits(n, *, classes, seed):
    """Logits of half members (sharper) and half nonmembers."""
    rng = np.random.default_rng(seed)
    member = np.arange(n) % 2 == 0
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), rng.integers(classes, size=n)] += np.where(member, 6, 3)
    return logits, member


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(scope="session")
def key():
    return KEY


@pytest.fixture(scope="session")
def ratings():
    return make_ratings(60, features=300, classes=6, seed=1)[0]


@pytest.fixture(scope="session")
def guesser():
    """A defense model that guesses one of 6 classes from 300 ratings."""
    x, y = make_ratings(800, features=300, classes=6, seed=0)
    truth = np.eye(6, dtype=np.float32)[y]
    network = train(x, (300, 48, 6), lambda z: softmax(z) - truth, seed=3)
    assert (network.logits(x).argmax(axis=1) == y).mean() > 0.7
    return network


@pytest.fixture(scope="session")
def detector():
    """A defense model that tells members from 8 sorted confidences, two hidden layers."""
    z, member = make_logits(800, classes=8, seed=0)
    truth = member[:, None].astype(np.float32)
    sizes = (8, 24, 12, 1)
    x = np.sort(softmax(z), axis=1)
    network = train(x, sizes, lambda h: 1 / (1 + np.exp(-h)) - truth, seed=5, epochs=200)
    assert ((network.logits(x)[:, 0] > 0) == member).mean() > 0.75
    return network


@pytest.fixture(scope="session")
def logits():
    return make_logits(120, classes=8, seed=7)[0]

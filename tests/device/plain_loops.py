"""Both algorithms as the paper prints them, one record at a time: slow, plain, independent.

Beside them the walk and the mechanism that go beyond the paper. The tests' oracle, and what the
benchmarks measure against.
"""

import numpy as np

from privet.device.mechanism import least_divergence


class Double:
    """A network in float64, whose picks rounding does not sway."""

    def __init__(self, network):
        self.weights = tuple(w.astype(np.float64) for w in network.weights)
        self.biases = tuple(b.astype(np.float64) for b in network.biases)
        self.logits = network.logits


def plain_search(
    network, record, target, *, max_steps=100, policy="modify_add", keep=False, low=0, high=1
):
    """Algorithm 1, phase I, for one record and target; returns (perturbed, reached)."""
    (w1, w2), (b1, b2) = network.weights, network.biases
    x = record.astype(w1.dtype)
    low, high = np.broadcast_to(low, x.shape), np.broadcast_to(high, x.shape)
    allowed = {"modify_add": record >= 0, "modify_exist": record > 0, "add_new": record == 0}
    free = allowed[policy] & ~np.broadcast_to(keep, x.shape)
    for _ in range(max_steps):
        z = w1 @ x + b1
        if np.argmax(w2 @ np.maximum(z, 0) + b2) == target:
            break
        gradient = (w2[target] * (z > 0)) @ w1
        increase, decrease = free * (high - x) * gradient, free * (low - x) * gradient
        i, j = np.argmax(increase), np.argmax(decrease)
        if max(increase[i], decrease[j]) <= 0:
            break
        if increase[i] >= decrease[j]:
            x[i] = high[i]
        else:
            x[j] = low[j]
    return x, np.argmax(network.logits(x[None])[0]) == target


def plain_walk(network, record, target, *, steps, policy="modify_add", keep=False, low=0, high=1):
    """One way of a record: (feature, value) of every change, and the logits at every stop."""
    x = record.astype(network.weights[0].dtype)
    low, high = np.broadcast_to(low, x.shape), np.broadcast_to(high, x.shape)
    allowed = {"modify_add": record >= 0, "modify_exist": record > 0, "add_new": record == 0}
    free = allowed[policy] & ~np.broadcast_to(keep, x.shape)
    logits, slopes = _logits_and_slopes(network, x)
    changes, stops = [], [logits]
    if np.argmax(logits) == target:
        return changes, stops
    for _ in range(steps):
        others = np.where(np.arange(len(logits)) == target, -np.inf, logits)
        gradient = slopes[target] - slopes[np.argmax(others)]
        increase, decrease = free * (high - x) * gradient, free * (low - x) * gradient
        i, j = np.argmax(increase), np.argmax(decrease)
        if max(increase[i], decrease[j]) <= 0:
            break
        feature, value = (i, high[i]) if increase[i] >= decrease[j] else (j, low[j])
        x[feature], free[feature] = value, False
        changes.append((feature, value))
        logits, slopes = _logits_and_slopes(network, x)
        stops.append(logits)
    return changes, stops


def _logits_and_slopes(network, x):
    """The logits at one record, and the gradient of each; shape (classes, features)."""
    slopes = np.eye(len(x))
    for weight, bias in zip(network.weights[:-1], network.biases[:-1], strict=True):
        x = weight @ x + bias
        slopes = (weight @ slopes) * (x > 0)[:, None]
        x = np.maximum(x, 0)
    return network.weights[-1] @ x + network.biases[-1], network.weights[-1] @ slopes


def plain_answers(prior, answers, costs, budget, *, rounds):
    """Expectation maximization, every fit to the budget exact, no candidate left out."""
    there = np.isfinite(costs)
    costs = np.where(there, costs, 0.0)
    weights = there / there.sum(axis=1, keepdims=True)
    for _ in range(rounds):
        psi = least_divergence(weights, costs, budget)
        mixed = np.einsum("nc,nck->nk", psi, answers)
        weights = psi * np.einsum("nck,nk->nc", answers, prior / mixed)
        weights /= weights.sum(axis=1, keepdims=True)
    return least_divergence(weights, costs, budget)


def softmax(v):
    powers = np.exp(v - v.max())
    return powers / powers.sum()


def plain_noise(network, logits, *, max_steps=299):
    """Algorithm 2, phase I, for one vector of logits; returns the confidences after, or None."""
    order = np.argsort(softmax(logits), kind="stable")
    z = logits[order].astype(np.float64)
    origin = softmax(z)
    start, _ = _decision(network, origin)
    if abs(1 / (1 + np.exp(-start)) - 0.5) <= 1e-5:
        return None
    best, c3 = None, 0.1
    while c3 <= 100000:
        noise, j = np.zeros(len(z)), 1
        while True:
            s = softmax(z + noise)
            h, slope = _decision(network, s)
            done = np.argmax(z + noise) == len(z) - 1 and start * h <= 0
            if done or j > max_steps:
                break
            pull = np.sign(h) * slope + c3 * np.sign(s - origin)
            gradient = s * (pull - s @ pull)
            rival = np.argmax((z + noise)[:-1])
            if (z + noise)[rival] > (z + noise)[-1]:
                gradient[rival] += 10
                gradient[-1] -= 10
            norm = np.linalg.norm(gradient)
            if norm == 0:
                break
            noise -= 0.1 * gradient / norm
            j += 1
        if not done:
            break
        best = s
        c3 *= 10
    if best is None:
        return None
    after = np.empty_like(best)
    after[order] = best
    return after


def _decision(network, confidences):
    """h and its gradient at one sorted confidence vector."""
    activations = [confidences.astype(np.float32)]
    masks = []
    for weight, bias in zip(network.weights[:-1], network.biases[:-1], strict=True):
        z = weight @ activations[-1] + bias
        masks.append(z > 0)
        activations.append(np.maximum(z, 0))
    h = (network.weights[-1] @ activations[-1] + network.biases[-1])[0]
    slope = network.weights[-1][0]
    for weight, mask in zip(network.weights[-2::-1], masks[::-1], strict=True):
        slope = (slope * mask) @ weight
    return h, slope

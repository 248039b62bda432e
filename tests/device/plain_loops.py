"""Both algorithms as the paper prints them, one record at a time: slow, plain, independent.

The tests' oracle, and what the benchmarks measure against.
"""

import numpy as np


def plain_search(network, record, target, *, max_steps=100):
    """Algorithm 1, phase I, for one record and target; returns (perturbed, reached)."""
    (w1, w2), (b1, b2) = network.weights, network.biases
    x = record.astype(w1.dtype)
    for _ in range(max_steps):
        z = w1 @ x + b1
        if np.argmax(w2 @ np.maximum(z, 0) + b2) == target:
            break
        gradient = (w2[target] * (z > 0)) @ w1
        increase, decrease = (1 - x) * gradient, -x * gradient
        i, j = np.argmax(increase), np.argmax(decrease)
        if max(increase[i], decrease[j]) <= 0:
            break
        if increase[i] >= decrease[j]:
            x[i] = 1
        else:
            x[j] = 0
    return x, np.argmax(network.logits(x[None])[0]) == target


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

"""Small bundles for the page, one whose self-test is wrong, and a file of people to protect."""

import base64
import hashlib
import json
import re

import numpy as np

from privet.device import Bundle, Network, Settings, write_bundle

FEATURES, CLASSES = 120, 12
ANSWERS = Settings(mechanism="answers", max_steps=4, temperature=0.3, leak=0.15, never=(3, 17))
TARGETS = Settings(max_steps=16, margins=((2.0, 0.2), (5.0, 0.5)), never=(3, 17))


def small_bundle(path, *, settings=ANSWERS, seed=5, **more):
    """Write a bundle whose network sees a class in a few features; return it as loaded."""
    rng = np.random.default_rng(seed)
    first = rng.normal(0, 1.0, (16, FEATURES)).astype(np.float32)
    last = rng.normal(0, 0.8, (CLASSES, 16)).astype(np.float32)
    biases = (np.zeros(16, np.float32), np.zeros(CLASSES, np.float32))
    prior = rng.dirichlet(np.full(CLASSES, 5.0))
    network = Network((first, last), biases)
    bundle = Bundle("attribute", network, prior=prior, settings=settings, **more)
    write_bundle(bundle, path)
    return path


def people(count=6, *, seed=3):
    """Return lines of ``index:score`` pairs."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        features = np.sort(rng.choice(FEATURES, 7, replace=False))
        scores = rng.integers(1, 6, 7) / 5
        lines.append(" ".join(f"{i}:{s}" for i, s in zip(features, scores, strict=True)))
    return "\n".join(lines) + "\n"


def with_wrong_self_test(content: bytes) -> bytes:
    """Return a bundle with a right digest, the first case of whose self-test nobody can confirm."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    document = json.loads(header["__metadata__"]["privet"])
    case = document["self_test"][0]
    case["posterior"] = case["posterior"][::-1]
    text = json.dumps(document)
    digest = hashlib.sha256(text.encode())
    for name in sorted(set(header) - {"__metadata__"}):
        start, end = header[name]["data_offsets"]
        shape = "x".join(map(str, header[name]["shape"]))
        digest.update(f"\n{name} {shape}\n".encode())
        digest.update(content[8 + length + start : 8 + length + end])
    header["__metadata__"] = {"privet": text, "digest": digest.hexdigest()}
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + content[8 + length :]


def inside(index: bytes) -> bytes:
    """Return the bundle inside a page."""
    (text,) = re.findall(rb'<script type="application/octet-stream" id="bundle">(.*?)<', index)
    return base64.b64decode(text, validate=True)

"""Damaged and hostile bundles by the thousand: the reader must refuse or survive every one.

    python benchmarks/fuzz_bundles.py --minutes 10 --seed 0

Sound bundles of both kinds and all precisions, small but for one, are mutated: bits flipped, bytes
spliced, values of the header swapped with its length set right, numbers of the tensors replaced by
extreme ones of their type. In half of
the cases the digest is made to fit, so that deeper code is reached. What the reader accepts then
passes its self-test or not, and protects one record. A crash is anything but privet's own errors,
warnings included; exit status 1 if there is one.
"""

import argparse
import json
import re
import resource
import struct
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np

from device.bundle_parts import DTYPES, body_of, digest_of, take_apart, with_header
from privet.device import Bundle, Network, Settings, read_bundle, run_self_test, write_bundle
from privet.device.quantize import PRECISIONS
from privet.errors import BundleError, DataError, OptionError

VALUES = (
    *("0", "1", "-1", "2", "3", "5", "0.5", "1.0", "-0.0", "127", "1e308", "1e-308", "1e999"),
    *("4294967296", "18446744073709551616", "9" * 40, "9" * 5000, "1e-7", "64", "65", "100000"),
    *("null", "true", "false", "NaN", "Infinity", "[]", "{}", '""', '"F32"', '"F16"', '"I8"'),
    *(
        '"membership"',
        '"attribute"',
        '"answers"',
        '"targets"',
        "[[]]",
        "[0,0]",
        "[1,0]",
        '"\\ud800"',
    ),
)
NUMBERS = (0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 1e-45, 1e9, 65504.0)
TOKEN = re.compile(rb'-?\d+(?:\.\d+)?(?:e-?\d+)?|\\?"[^"\\]*\\?"|\[[^\[\]{}]*\]|null|true|false')
LEVELS = (0, 1, -1, 127, -127, -128)
KEY = bytes(range(32))
LARGE = Settings(max_steps=8, mechanism="answers", temperature=0.3, leak=0.15)


@dataclass
class Tally:
    """What came of all cases."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=lambda: {"reading": 0.0, "protecting": 0.0})
    crashes: list[str] = field(default_factory=list)


def sound_bundles() -> list[bytes]:
    """Make bundles of both kinds, with all that a document can say; the last one is large."""
    rng = np.random.default_rng(0)

    def network(*sizes: int) -> Network:
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        return Network(
            tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes),
            tuple(rng.normal(size=shape[0]).astype(np.float32) for shape in shapes),
        )

    answers = Settings(max_steps=3, mechanism="answers", temperature=0.5, leak=0.1, never=(1, 4))
    targets = Settings(max_steps=9, margins=((1.0, 0.1), (3.0, 0.5)), low=(0.0,) * 6, high=0.8)
    names = tuple(f"app {i}" for i in range(6))
    bundles = [
        Bundle("attribute", network(6, 4, 3), prior=[0.2, 0.3, 0.5], settings=answers),
        Bundle("attribute", network(6, 4, 3, 2), settings=targets, feature_names=names),
        Bundle("membership", network(4, 5, 1), card={"a": [1, {"b": None}], "ü": 0.5}),
    ]
    made = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        for bundle in bundles:
            for precision in PRECISIONS:
                write_bundle(bundle, path, precision=precision)
                made.append(path.read_bytes())
        many = tuple(f"app {i}" for i in range(2000))
        large = Bundle("attribute", network(2000, 60, 20), settings=LARGE, feature_names=many)
        write_bundle(large, path, precision="int8")
        made.append(path.read_bytes())
    return made


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a sound bundle with one to three things wrong, its digest made to fit or not."""
    fit = rng.random() < 0.5
    for _ in range(rng.integers(1, 4)):
        change = (flip, splice, swap, swap, renumber)[rng.integers(5)]
        content = change(content, rng)
    return refitted(content) if fit else content


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(content)
    for place in rng.integers(len(changed), size=rng.integers(1, 9)) if changed else ():
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def splice(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut a piece out, put one in twice, or cut the end off."""
    start, end = np.sort(rng.integers(len(content) + 1, size=2)).tolist()
    end = min(end, start + int(rng.integers(1, 64)))
    what = rng.integers(3)
    if what == 0:
        return content[:start] + content[end:]
    return content[:end] + content[start:] if what == 1 else content[:end]


def swap(content: bytes, rng: np.random.Generator) -> bytes:
    """Put another value in the place of one in the header, whose length stays right."""
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length]
    found = list(TOKEN.finditer(header[:100_000]))
    if not found:
        return content
    place = found[rng.integers(len(found))]
    if rng.random() < 0.3:
        value = found[rng.integers(len(found))][0]
    else:
        value = VALUES[rng.integers(len(VALUES))].encode()
        inside = place.start() < header.rfind(b'\\"')  # text in text
        value = value.replace(b'"', b'\\"') if inside else value
    return resized(header[: place.start()] + value + header[place.end() :], content[8 + length :])


def resized(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def renumber(content: bytes, rng: np.random.Generator) -> bytes:
    """Put an extreme number of the right type into one of the tensors: a scale as soon as any."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        tensors = [each for name, each in header.items() if name != "__metadata__"]
        tensor = tensors[rng.integers(len(tensors))]
        numbers = LEVELS if tensor["dtype"] == "I8" else NUMBERS
        with np.errstate(over="ignore"):
            values = np.array(numbers).astype(DTYPES[tensor["dtype"]])
        start, end = tensor["data_offsets"]
        place = (
            8 + length + start + rng.integers((end - start) // values.itemsize) * values.itemsize
        )
    except Exception:  # a header that tells of no numbers any more
        return content
    value = values[rng.integers(len(values))].tobytes()
    return content[:place] + value + content[place + len(value) :]


def refitted(content: bytes) -> bytes:
    """Return the file with the digest that belongs to it, where it has one."""
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        parts = take_apart(content)
        text = header["__metadata__"]["privet"]
        header["__metadata__"]["digest"] = digest_of(parts, text)
        body = content[8 + length :]
        return with_header(header, body if len(body) >= len(body_of(parts)) else content)
    except Exception:  # no digest belongs to it
        return content


def attempt(content: bytes, tally: Tally) -> str:
    """Read one file and use it; return what came of it."""
    began = perf_counter()
    try:
        bundle = read_bundle(content)
    except BundleError:
        return "refused"
    finally:
        tally.slowest["reading"] = max(tally.slowest["reading"], perf_counter() - began)
    began = perf_counter()
    outcome = "accepted"
    try:
        run_self_test(bundle)
    except BundleError:
        outcome = "accepted, its self-test failed"
    record = np.zeros((1, bundle.features))
    record[0, 0] = 1.0
    try:
        bundle.protect(record, budget=1.5, key=KEY)
        bundle.posterior(record)
    except (DataError, OptionError):
        outcome += ", no record protected"
    tally.slowest["protecting"] = max(tally.slowest["protecting"], perf_counter() - began)
    return outcome


def fuzz(seconds: float, seed: int) -> Tally:
    rng, tally, sound = np.random.default_rng(seed), Tally(), sound_bundles()
    warnings.simplefilter("error")
    end = perf_counter() + seconds
    for content in sound:
        assert attempt(content, tally) == "accepted"
    while perf_counter() < end:
        content = mutated(sound[rng.integers(len(sound))], rng)
        try:
            tally.counts[attempt(content, tally)] += 1
        except Exception:
            tally.counts["crashed"] += 1
            tally.crashes.append(traceback.format_exc())
            if len(tally.crashes) <= 3:
                path = Path(tempfile.gettempdir()) / f"crash-{seed}-{len(tally.crashes)}"
                path.write_bytes(content)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tally = fuzz(60 * options.minutes, options.seed)
    print(f"cases tried: {tally.counts.total():,}")
    for outcome, count in tally.counts.most_common():
        print(f"  {outcome}: {count:,}")
    print(f"crashes: {len(tally.crashes)}")
    for crash in tally.crashes[:3]:
        print(crash)
    for what, slow in tally.slowest.items():
        print(f"slowest {what}: {slow:.3f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"peak memory: {peak:.0f} MB")
    return 1 if tally.crashes else 0


if __name__ == "__main__":
    sys.exit(main())

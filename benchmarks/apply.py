"""Time and peak memory of `privet protect apply`, for one person and for a file of many.

    privet protect build att --hidden 40000 --speedups 200 --out bundles
    python benchmarks/apply.py bundles/att-x200.safetensors
    python benchmarks/apply.py --many 1000000

Each is the whole command as a person runs it, in a process of its own, whose resident memory at
its peak is the system's figure. The bare interpreter is measured beside it. With a bundle, records
are the test users of Att unless a file is named. Without one, small bundles of random weights
protect synthetic records, 10,000 and `--many` of them: ratings of 100 features in a CSV file, and
confidences of 10 classes in a Parquet file, both in constant memory.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from privet.data.registry import find
from privet.device import Bundle, Network, Settings, write_bundle

WATCHED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""
FEW = 10_000
RATINGS, CLASSES, CONFIDENCES = 100, 4, 10
ROWS = 10_000  # made at one time


def measure(command: list[str]) -> tuple[float, float]:
    """Return wall seconds, starting a Python for the watching included, and peak memory in MB."""
    began = perf_counter()
    watched = [sys.executable, "-c", WATCHED, *command]
    done = subprocess.run(watched, check=True, capture_output=True, text=True)
    return perf_counter() - began, int(done.stdout) * 1024 / 1e6


def apply(source: Path, bundle: Path, budget: str) -> list[str]:
    """Return the command that protects ``source``; the result goes beside it."""
    folder, out = source.parent, source.with_name("out" + source.suffix)
    command = [str(Path(sys.executable).with_name("privet")), "protect", "apply", str(source)]
    command += ["--bundle", str(bundle), "--budget", budget]
    return [*command, "--out", str(out), "--key", str(folder / "key")]


def people(bundle: Path, records: Path, budget: str) -> None:
    """Measure the first and all records of a file of pairs."""
    nothing, _ = measure([sys.executable, "-c", ""])
    lines = records.read_text().splitlines(keepends=True)
    with tempfile.TemporaryDirectory() as name:
        for count in (1, len(lines)):
            source = Path(name) / f"{count}.txt"
            source.write_text("".join(lines[:count]))
            seconds, peak = measure(apply(source, bundle, budget))
            print(
                f"{count:>6} records: {seconds - nothing:7.2f} s beyond the bare interpreter's "
                f"{nothing:.2f} s, peak memory {peak:6.1f} MB"
            )


def attribute_bundle(rng: np.random.Generator) -> Bundle:
    """Return a defense model of random weights for ratings."""
    sizes = [(16, RATINGS), (CLASSES, 16)]
    weights = tuple(rng.normal(0, 0.5, size).astype(np.float32) for size in sizes)
    network = Network(weights, tuple(np.zeros(size[0], np.float32) for size in sizes))
    names = tuple(f"item{i}" for i in range(RATINGS))
    return Bundle("attribute", network, settings=Settings(mechanism="answers"), feature_names=names)


def membership_bundle() -> Bundle:
    """Return a defense model that takes a largest confidence above 5/8 for a member's."""
    first = np.eye(1, CONFIDENCES, CONFIDENCES - 1, dtype=np.float32)
    weights, biases = (first, np.full((1, 1), 8, np.float32)), (np.zeros(1), np.full(1, -5.0))
    network = Network(weights, tuple(bias.astype(np.float32) for bias in biases))
    names = tuple(f"class{i}" for i in range(CONFIDENCES))
    return Bundle("membership", network, feature_names=names)


def ratings(rng: np.random.Generator, count: int) -> Iterator[NDArray[np.float64]]:
    for at in range(0, count, ROWS):
        shape = min(ROWS, count - at), RATINGS
        yield (rng.random(shape) < 0.1) * rng.integers(1, 6, shape) / 5


def confidences(rng: np.random.Generator, count: int) -> Iterator[NDArray[np.float64]]:
    for at in range(0, count, ROWS):
        logits = rng.normal(0, 2, (min(ROWS, count - at), CONFIDENCES))
        logits[:, 0] += 2
        powers = np.exp(logits)
        yield powers / powers.sum(axis=1, keepdims=True)


def write_csv(path: Path, names: tuple[str, ...], blocks: Iterator[NDArray[np.float64]]) -> None:
    with path.open("w") as file:
        file.write(",".join(names) + "\n")
        for block in blocks:
            np.savetxt(file, block, fmt="%g", delimiter=",")


def write_parquet(
    path: Path, names: tuple[str, ...], blocks: Iterator[NDArray[np.float64]]
) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.float32()) for name in names])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for block in blocks:
            writer.write_batch(
                pyarrow.record_batch(list(block.T.astype(np.float32)), schema=schema)
            )


def many(count: int) -> None:
    """Measure both kinds of bundle on synthetic records; memory must not grow with their number."""
    rng = np.random.default_rng(0)
    cases = (
        (attribute_bundle(rng), "2", ".csv", write_csv, ratings),
        (membership_bundle(), "0.3", ".parquet", write_parquet, confidences),
    )
    for bundle, budget, suffix, write, make in cases:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "bundle.safetensors"
            write_bundle(bundle, path)
            assert bundle.feature_names is not None
            for size in (FEW, count):
                source = Path(name) / f"{size}{suffix}"
                write(source, bundle.feature_names, make(rng, size))
                seconds, peak = measure(apply(source, path, budget))
                print(
                    f"{bundle.kind:>10}, {size:>9,} records of {bundle.features} in {suffix}: "
                    f"{seconds:7.1f} s, {size / seconds:8,.0f} records/s, "
                    f"peak memory {peak:6.1f} MB",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="?", help="synthetic records if left out")
    parser.add_argument("--records", type=Path, help="app:score text; Att's test users by default")
    parser.add_argument("--budget", default="2")
    parser.add_argument("--many", type=int, default=1_000_000, help="synthetic records")
    options = parser.parse_args()
    if options.bundle is None:
        many(options.many)
    else:
        records = options.records or find("att").folder / "test_user.txt"
        people(options.bundle, records, options.budget)


if __name__ == "__main__":
    main()

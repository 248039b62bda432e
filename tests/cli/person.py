"""What a person has: bundles, a file of ratings, and commands run as processes of their own."""

import json
import signal
import subprocess
import sys

import numpy as np

from cli.commands import asked
from privet.device import Bundle, Network, write_bundle

NAMES = ("maps", "chess", "7", "bank app", "news", "radio")
PATIENCE = 30.0  # seconds to wait for a process before the test gives up
PRIVET = [sys.executable, "-m", "privet"]
APPLY = "protect apply {} --bundle {} --budget 3"


def handmade(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    return Network(
        tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes),
        tuple(np.zeros(shape[0], np.float32) for shape in shapes),
    )


def make_bundle(path, *, hidden=8, precision="float32", seed=0, **more):
    """Write a bundle of 6 named ratings and 3 classes."""
    network = handmade(6, hidden, 3, seed=seed)
    made = Bundle("attribute", network, feature_names=NAMES, **more)
    write_bundle(made, path, precision=precision)
    return path


def make_tiers(folder):
    """Write bundles of two sizes that differ by more than a MB, each in two precisions."""
    folder.mkdir()
    for name, hidden in (("x2", 40_000), ("x100", 8)):
        for precision in ("float32", "int8"):
            path = folder / f"cities-{name}-{precision}.safetensors"
            make_bundle(path, hidden=hidden, precision=precision)
    return folder


def write_people(path):
    """Write a table of 200 users, whose six ratings tell one of three cities."""
    rng = np.random.default_rng(2)
    cities = rng.integers(0, 3, 200)
    likes = np.array([[9, 1, 1, 5, 5, 1], [1, 9, 1, 5, 1, 5], [1, 1, 9, 1, 5, 5]]) / 10
    rated = rng.random((200, 6)) < likes[cities]
    values = rated * rng.integers(1, 6, (200, 6)) / 5
    lines = [
        ",".join([*(f"{v:g}" for v in row), str(city)])
        for row, city in zip(values, cities, strict=True)
    ]
    path.write_text("\n".join([",".join([*NAMES, "label"]), *lines]) + "\n")
    return path


def ratings(count=40):
    """Ratings of which half are 0."""
    rng = np.random.default_rng(1)
    return np.where(rng.random((count, 6)) < 0.5, 0, rng.integers(1, 5, (count, 6)) / 5)


def write_csv(path, values, *, separator=","):
    lines = [separator.join(f"{value:g}" for value in row) for row in values]
    path.write_text("\n".join([separator.join(NAMES), *lines]) + "\n")
    return path


def words(command, *places):
    rest = iter(places)
    return [str(next(rest)) if word == "{}" else word for word in command.split()]


def process(command, *places, stdin=b""):
    """Run a command as a process; return its exit status, stdout and stderr, all bytes."""
    arguments = [*PRIVET, *words(command, *places)]
    done = subprocess.run(
        arguments, input=stdin, capture_output=True, check=False, timeout=PATIENCE
    )
    return done.returncode, done.stdout, done.stderr


def started(command, *places):
    """Start a command with pipes for stdin, stdout and stderr, and let Ctrl-C reach it."""
    return subprocess.Popen(
        [*PRIVET, *words(command, *places)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell lets what it runs in the background ignore Ctrl-C, and so would we.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def summary(command, *places):
    """Run a command with --json in this process; return its answer."""
    status, printed = asked(f"{command} --json", *places)
    assert status == 0
    return json.loads(printed)

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from privet.device import Bundle, Network, Settings, load_bundle, pick, write_bundle
from privet.device.bundle import Outline, outline
from privet.device.case import Case
from privet.device.pick import RUNTIME, memory_needed, milliseconds
from privet.device.protect import logits_kept
from privet.errors import BundleError, OptionError

APPLY = """
import sys
from privet.cli import run
assert run(["protect", "apply", *sys.argv[1:]]) == 0
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


def network(*sizes):
    rng = np.random.default_rng(0)
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    return Network(
        tuple((rng.normal(size=s) / np.sqrt(s[1])).astype("f4") for s in shapes),
        tuple(rng.normal(size=s[0]).astype("f4") for s in shapes),
    )


@pytest.fixture(scope="module")
def tiers(tmp_path_factory):
    """Three speed-ups, the middle one in all precisions."""
    folder = tmp_path_factory.mktemp("tiers")
    settings = Settings(max_steps=8, mechanism="answers")
    paths = {}
    for name, hidden, precision in (
        ("small", 4, "float32"),
        ("middle-int8", 40, "int8"),
        ("middle", 40, "float32"),
        ("middle-float16", 40, "float16"),
        ("large", 400, "int8"),
    ):
        paths[name] = folder / name
        bundle = Bundle("attribute", network(2000, hidden, 5), settings=settings)
        write_bundle(bundle, paths[name], precision=precision)
    return paths


def test_the_most_macs_win_and_then_the_finest_precision(tiers):
    paths = list(tiers.values())
    assert pick(paths) == pick(paths[::-1]) == tiers["large"]
    assert pick([path for path in paths if path.name != "large"]) == tiers["middle"]
    assert pick([tiers["middle-int8"], tiers["middle-float16"]]) == tiers["middle-float16"]
    assert pick([tiers["small"]], max_memory=1e6, max_ms=1e6) == tiers["small"]


def test_memory_limits_are_kept(tiers):
    paths = list(tiers.values())
    need = {name: memory_needed(outline(path)) for name, path in tiers.items()}
    assert need["middle-int8"] == need["middle"]  # the device computes in float32 anyway
    assert outline(tiers["middle"]).logits == 8 * 5**2
    assert need["middle"] > RUNTIME + 4 * 2 * 2000 * 40 / 1e6
    assert pick(paths, max_memory=need["large"]) == tiers["large"]
    assert pick(paths, max_memory=need["large"] - 0.01) == tiers["middle"]
    assert pick(paths, max_memory=need["small"]) == tiers["small"]
    with pytest.raises(
        OptionError, match=rf"no bundle fits into 5 MB: .*small .* {need['small']:.0f}"
    ):
        pick(paths, max_memory=5)


def test_time_limits_are_tried_from_the_best_down(tiers, monkeypatch):
    tried = []

    def taken(bundle):
        tried.append(bundle.network.sizes[1])
        return bundle.network.sizes[1]  # ms

    paths = [tiers["small"], tiers["large"], tiers["middle"]]
    monkeypatch.setitem(pick.__globals__, "milliseconds", taken)
    assert pick(paths, max_ms=400) == tiers["large"]
    assert tried == [400]
    assert pick(paths, max_ms=399) == tiers["middle"]
    assert pick(paths, max_ms=4) == tiers["small"]
    with pytest.raises(OptionError, match=r"at most 3 ms .*small is quickest, about 4"):
        pick(paths, max_ms=3)
    # What memory rules out is not tried.
    tried.clear()
    assert pick(paths, max_memory=memory_needed(outline(paths[0])), max_ms=9) == tiers["small"]
    assert tried == [4]


def test_times_are_those_of_real_runs():
    narrow, wide = (Bundle("attribute", network(4000, hidden, 5)) for hidden in (4, 1000))
    assert 0.01 < milliseconds(narrow) < milliseconds(wide) < 10_000


def test_times_are_taken_of_the_self_test(guesser, monkeypatch):
    asked = []
    bundle = Bundle("attribute", guesser)
    case = Case(((7, 0.4),), 2.5, (), ())
    monkeypatch.setattr(Bundle, "protect", lambda *_, budget, key: asked.append(budget))
    milliseconds(replace(bundle, self_test=(case,)))
    assert set(asked) == {2.5}
    milliseconds(bundle)
    assert len(set(asked)) > 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures on Linux")
@pytest.mark.parametrize(
    ("sizes", "precision"),
    [
        ((20, 8, 3), "float32"),
        ((10_000, 20, 25), "float32"),
        ((10_000, 200, 25), "float32"),
        ((10_000, 200, 25), "float16"),
        ((10_000, 200, 25), "int8"),
        ((30, 256, 128, 64, 1), "float32"),
        ((400, 1024, 512, 1), "int8"),
    ],
)
def test_the_command_keeps_to_the_estimate(sizes, precision, tmp_path):
    kind = "membership" if sizes[-1] == 1 else "attribute"
    mechanism = "answers" if kind == "attribute" else "targets"
    bundle = Bundle(kind, network(*sizes), settings=Settings(max_steps=8, mechanism=mechanism))
    path = tmp_path / "bundle"
    write_bundle(bundle, path, precision=precision)
    row = np.zeros(bundle.features)
    row[:: max(1, bundle.features // 9)] = 1.0
    row /= row.sum() if kind == "membership" else 1
    (tmp_path / "one.csv").write_text(",".join(map(str, row)) + "\n")
    files = ["--bundle", path, "--key", tmp_path / "key", "--out", tmp_path / "out.csv"]
    command = [sys.executable, "-c", APPLY, tmp_path / "one.csv", *files, "--budget", "1.5"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    measured = int(done.stderr.split()[-1]) * 1024 / 1e6
    assert 0.7 * memory_needed(outline(path)) < measured <= memory_needed(outline(path))


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_loading_coarse_weights_takes_what_is_reckoned(precision, tmp_path):
    """A deep network's loading, not its search, is what needs most memory."""
    bundle = Bundle("attribute", network(8, 600, 600, 600, 2))
    write_bundle(bundle, tmp_path / "bundle", precision=precision)
    need = memory_needed(outline(tmp_path / "bundle")) - RUNTIME
    tracemalloc.start()
    load_bundle(tmp_path / "bundle")
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    assert 0.8 * need < peak < need + 0.2


@pytest.mark.parametrize(
    ("sizes", "settings"),
    [
        ((20, 3, 1500), Settings(max_steps=4)),
        ((20, 1000, 200), Settings(max_steps=8)),
        ((20, 3, 700), Settings(mechanism="answers")),
        ((20, 3, 250), Settings(mechanism="answers", max_steps=64)),
    ],
)
def test_many_classes_take_what_is_reckoned(sizes, settings):
    """However many classes there are, one record's search stays within the estimate."""
    bundle = Bundle("attribute", network(*sizes), settings=settings)
    found = Outline("attribute", sizes, "float32", logits_kept(settings, sizes[-1]))
    record = np.zeros((1, 20))
    record[0, ::4] = 1.0
    tracemalloc.start()
    bundle.protect(record, budget=1.5, key=bytes(32))
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    assert peak < memory_needed(found) - RUNTIME < 6 * peak


def test_what_makes_no_sense_is_refused(tiers, detector, tmp_path):
    paths = list(tiers.values())
    with pytest.raises(OptionError, match="no bundle to pick"):
        pick([], max_ms=1)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(OptionError, match="memory must be above 0"):
            pick(paths, max_memory=wrong)
        with pytest.raises(OptionError, match="milliseconds must be above 0"):
            pick(paths, max_ms=wrong)
    write_bundle(Bundle("membership", detector), tmp_path / "other")
    with pytest.raises(OptionError, match="one kind"):
        pick([*paths, tmp_path / "other"])
    with pytest.raises(BundleError, match="cannot read"):
        pick([*paths, tmp_path / "none"])

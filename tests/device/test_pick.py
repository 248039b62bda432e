import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from privet.device import Bundle, Network, Settings, pick, write_bundle
from privet.device.bundle import outline
from privet.device.pick import memory_needed, milliseconds
from privet.errors import BundleError, OptionError

RESIDENT = """
import resource, sys
import numpy as np
from privet.device import load_bundle
bundle = load_bundle(sys.argv[1])
record = np.zeros((1, bundle.features))
record[0, ::max(1, bundle.features // 9)] = 1.0
record /= record.sum() if bundle.kind == "membership" else 1
bundle.protect(record, budget=1.5, key=bytes(32))
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
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


def test_times_are_those_of_real_runs(guesser, detector):
    for bundle in (Bundle("attribute", guesser), Bundle("membership", detector)):
        assert 0.01 < milliseconds(bundle) < 10_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures on Linux")
@pytest.mark.parametrize("sizes", [(20, 8, 3), (10_000, 200, 25), (30, 256, 128, 64, 1)])
def test_memory_is_as_estimated(sizes, tmp_path):
    kind = "membership" if sizes[-1] == 1 else "attribute"
    mechanism = "answers" if kind == "attribute" else "targets"
    bundle = Bundle(kind, network(*sizes), settings=Settings(max_steps=8, mechanism=mechanism))
    write_bundle(bundle, tmp_path / "bundle")
    command = [sys.executable, "-c", RESIDENT, str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured = int(done.stdout) * 1024 / 1e6
    assert memory_needed(outline(tmp_path / "bundle")) == pytest.approx(measured, rel=0.25)


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

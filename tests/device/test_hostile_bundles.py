import io
import tracemalloc
from time import process_time

import numpy as np
import pytest

from device.bundle_parts import as_float16, as_int8, put_together, take_apart
from device.hostile_bundles import hostile
from privet.device import Bundle, Network, Settings, load_bundle, read_bundle, write_bundle
from privet.device.bundle import outline
from privet.errors import BundleError


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    rng = np.random.default_rng(0)
    sizes = ((5, 6), (4, 5), (3, 4))
    network = Network(
        tuple(rng.normal(size=size).astype("f4") for size in sizes),
        tuple(rng.normal(size=size[0]).astype("f4") for size in sizes),
    )
    settings = Settings(max_steps=5, margins=((1.0, 0.5),))
    path = tmp_path_factory.mktemp("sound") / "bundle"
    write_bundle(Bundle("attribute", network, prior=[0.5, 0.3, 0.2], settings=settings), path)
    return path.read_bytes()


def refusal(path):
    try:
        load_bundle(path)
    except BundleError as error:
        return str(error)
    return ""


def test_every_hostile_bundle_is_refused_quickly_and_in_one_line(sound, tmp_path):
    names = set()
    for name, content in hostile(sound):
        path = tmp_path / "hostile"
        path.write_bytes(content)
        began = process_time()
        message = refusal(path)
        assert process_time() - began < 2, name
        assert message, f"accepted: {name}"
        assert "\n" not in message, name
        assert len(message) < 400 + len(str(path)), name
        assert name not in names
        names.add(name)
    assert len(names) > 250


def test_the_sound_ones_they_were_made_from_are_not(sound):
    parts = take_apart(sound)
    for each in (parts, as_float16(parts), as_int8(parts), parts.change(self_test=[])):
        assert read_bundle(put_together(each)).features == 6


def test_declared_sizes_allocate_nothing(sound, tmp_path):
    for name, content in hostile(sound):
        if "shape of" not in name and "layers" not in name:
            continue
        tracemalloc.start()
        with pytest.raises(BundleError):
            read_bundle(content)
        assert tracemalloc.get_traced_memory()[1] < 40e6, name
        tracemalloc.stop()


def test_reading_bytes_reads_what_the_file_holds(sound, tmp_path):
    (tmp_path / "a").write_bytes(sound)
    assert read_bundle(sound).digest == load_bundle(tmp_path / "a").digest
    with pytest.raises(BundleError, match="that file is no usable"):
        read_bundle(sound[:-1], "that file")


def test_an_outline_reads_no_weights(sound, tmp_path):
    damaged = bytearray(sound)
    damaged[-1] ^= 1
    path = tmp_path / "a"
    path.write_bytes(damaged)
    found = outline(path)
    assert (found.kind, found.layers, found.precision) == ("attribute", (6, 5, 4, 3), "float32")
    path.write_bytes(put_together(as_int8(take_apart(sound))))
    assert outline(str(path)).precision == "int8"
    with pytest.raises(BundleError, match="cannot read"):
        outline(tmp_path / "none")
    path.write_bytes(sound + b"x")
    with pytest.raises(BundleError, match="end with the file"):
        outline(path)


def test_a_file_that_shrinks_while_it_is_read_is_refused(sound, monkeypatch):
    class Shrinking(io.BytesIO):
        def readinto(self, buffer):
            self.truncate(len(sound) - 1)
            return super().readinto(buffer)

    monkeypatch.setattr("privet.device.bundle.io.BytesIO", Shrinking)
    with pytest.raises(BundleError, match="became shorter"):
        read_bundle(sound)

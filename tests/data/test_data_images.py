import io
import sys
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privet.data import images, load
from privet.errors import DataError, OptionError

COLORS = {"cat": (255, 0, 0), "dog": (0, 0, 255)}


def picture(
    color: tuple[int, int, int], size: tuple[int, int] = (6, 5), kind: str = "PNG"
) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, kind)
    return buffer.getvalue()


def layout(splits: tuple[str, ...] = ("",)) -> dict[str, bytes]:
    return {
        f"{split}{label}/{i}.png": picture(color)
        for split in splits
        for label, color in COLORS.items()
        for i in range(2)
    }


def as_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def as_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in reversed(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def as_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in reversed(files.items()):
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("pack", [as_folder, as_tar, as_zip])
@pytest.mark.parametrize("top", ["", "top/"])
@pytest.mark.parametrize("splits", [("",), ("train/",), ("train/", "test/")])
def test_reads_any_packing(tmp_path: Path, pack, top: str, splits: tuple[str, ...]) -> None:
    suffix = {as_folder: "", as_tar: ".tar", as_zip: ".zip"}[pack]
    files = {top + name: content for name, content in layout(splits).items()}
    files[top + "README.txt"] = files[".hidden/x/9.png"] = b"ignored"
    table = load(str(pack(tmp_path / f"pets{suffix}", files)))
    for part in (table, table.test) if len(splits) == 2 else (table,):
        assert part is not None
        assert part.inputs.shape == (4, 3, 5, 6)
        assert part.class_names == tuple(sorted(COLORS))
        np.testing.assert_array_equal(part.labels, [0, 0, 1, 1])
        np.testing.assert_array_equal(part.inputs[0, :, 0, 0], [1, 0, 0])
        np.testing.assert_array_equal(part.inputs[3, :, 4, 5], [0, 0, 1])
    assert (table.test is None) == (len(splits) == 1)
    assert table.name == "pets"


def test_gray_pictures_become_rgb(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (6, 5), 51).save(buffer, "PNG")
    table = load(str(as_folder(tmp_path / "x", layout() | {"cat/9.png": buffer.getvalue()})))
    np.testing.assert_array_equal(table.inputs[2], np.full((3, 5, 6), np.float32(0.2)))


def deep() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((5, 6), 40_000, np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"cat/9.png": b"no picture"}, r"cat/9\.png is not a sound picture"),
        ({"cat/9.png": picture((1, 2, 3))[:45]}, r"cat/9\.png is not a sound picture"),
        ({"cat/9.png": picture((1, 2, 3), (7, 5))}, "7 x 5"),
        ({"cat/9.png": deep()}, "more than 8 bits"),
        ({"cat/9.png": picture((0, 0, 0), (4097, 4097))}, "4097 x 4097 pixels"),
        ({"9.png": picture((1, 2, 3))}, "lies in no class folder"),
        ({"val/cat/9.png": picture((1, 2, 3))}, "class folders lie in '.' and in 'val'"),
        ({"test/cow/9.png": picture((1, 2, 3))}, "test class 'cow'"),
    ],
)
def test_names_the_picture_at_fault(tmp_path: Path, extra: dict[str, bytes], message: str) -> None:
    for path in (
        as_folder(tmp_path / "x", layout() | extra),
        as_tar(tmp_path / "x.tar", layout() | extra),
    ):
        with pytest.raises(DataError, match=message):
            load(str(path))


def test_refuses_collections_without_use(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        load(str(tmp_path / "none"))
    with pytest.raises(DataError, match="train/ is missing"):
        load(str(as_folder(tmp_path / "test-only", layout(("test/",)))))


@pytest.mark.parametrize("pack", [as_tar, as_zip])
def test_hostile_names_write_nothing(tmp_path: Path, pack) -> None:
    inner = tmp_path / "in"
    inner.mkdir()
    suffix = ".tar" if pack is as_tar else ".zip"
    hostile = {"../../cat/0.png": picture((1, 2, 3)), "../../dog/0.png": picture((1, 2, 3))}
    path = pack(inner / f"x{suffix}", hostile)
    before = sorted(tmp_path.rglob("*"))
    with suppress(DataError):
        load(str(path))
    assert sorted(tmp_path.rglob("*")) == before


def test_refuses_huge_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_MOST_BYTES", 1000)
    files = layout() | {"cat/9.png": bytes(2000)}
    for path in (
        as_tar(tmp_path / "x.tgz", files),
        as_zip(tmp_path / "x.zip", files),
        as_folder(tmp_path / "x", files),
    ):
        with pytest.raises(DataError, match=r"cat/9\.png"):
            load(str(path))


@pytest.mark.parametrize("suffix", [".tar", ".tgz", ".zip"])
def test_refuses_archives_cut_short(tmp_path: Path, suffix: str) -> None:
    path = (as_zip if suffix == ".zip" else as_tar)(tmp_path / f"x{suffix}", layout())
    # Half of a plain tar this small is all of its members: the rest is padding.
    path.write_bytes(path.read_bytes()[: 700 if suffix == ".tar" else path.stat().st_size // 2])
    with pytest.raises(DataError, match="damaged or cut short"):
        load(str(path))


def test_says_what_to_install_without_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = as_folder(tmp_path / "x", layout())
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(OptionError, match=r"pip install 'privet\[train\]'"):
        load(str(folder))


def test_ch_mnist_scales_its_tiles_and_ignores_the_larger_pictures(tmp_path: Path) -> None:
    top = "Kather_texture_2016_image_tiles_5000/"
    tissues = ["01_TUMOR", "02_STROMA", "08_EMPTY"]
    files = {
        f"{top}{tissue}/a_{i}.tif": picture((85 * k, 0, 255), (150, 150), "TIFF")
        for k, tissue in enumerate(tissues)
        for i in range(2)
    }
    files["Kather_texture_2016_larger_images_10/b.tif"] = picture((1, 2, 3), (500, 500), "TIFF")
    as_zip(tmp_path / "Kather_texture_2016_image_tiles_5000.zip", files)
    table = images.load_ch_mnist(tmp_path)
    assert table.inputs.shape == (6, 3, 64, 64)
    np.testing.assert_array_equal(table.labels, [0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(table.inputs[5, :, 0, 0], [2 / 3, 0, 1], atol=1e-6)


# CIFAR's binary files


def records(labels: list[list[int]], first: int = 0) -> bytes:
    pixels = np.arange(first, first + 3072) % 256
    return b"".join(bytes(head) + pixels.astype(np.uint8).tobytes() for head in labels)


def cifar10(folder: Path, **changed: bytes) -> None:
    files = {f"data_batch_{i}": records([[i], [9 - i]]) for i in range(1, 6)}
    files |= {"test_batch": records([[7]], first=3)} | changed
    as_tar(
        folder / "cifar-10-binary.tar.gz",
        {f"cifar-10-batches-bin/{name}.bin": content for name, content in files.items()},
    )


def test_cifar10(tmp_path: Path) -> None:
    cifar10(tmp_path)
    table = images.load_cifar10(tmp_path)
    assert table.inputs.shape == (10, 3, 32, 32)
    np.testing.assert_array_equal(table.labels, [1, 8, 2, 7, 3, 6, 4, 5, 5, 4])
    assert table.inputs[0, 1, 2, 3] == np.float32((1024 + 2 * 32 + 3) % 256) / np.float32(255)
    assert table.test is not None
    np.testing.assert_array_equal(table.test.labels, [7])
    assert table.test.inputs[0, 0, 0, 0] == np.float32(3 / 255)


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    files = {"train": records([[19, 99], [0, 3]]), "test": records([[1, 2]])}
    as_tar(
        tmp_path / "cifar-100-binary.tar.gz",
        {f"cifar-100-binary/{name}.bin": content for name, content in files.items()},
    )
    table = images.load_cifar100(tmp_path)
    np.testing.assert_array_equal(table.labels, [99, 3])
    assert (table.classes, len(table.test or ())) == (100, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (records([[1], [2]])[:-5], r"data_batch_3\.bin has 6141 bytes, not a multiple of 3073"),
        (b"", "has 0 bytes"),
        (records([[1], [10]]), r"record 1: label 10 is not in 0\.\.9"),
    ],
)
def test_names_the_cifar_record_at_fault(tmp_path: Path, content: bytes, message: str) -> None:
    cifar10(tmp_path, data_batch_3=content)
    with pytest.raises(DataError, match=message):
        images.load_cifar10(tmp_path)


@pytest.mark.slow
def test_real_pictures(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVET_DATA", str(real_data))
    table = load("cifar10-images")
    assert table.inputs.shape == (10_000, 3, 32, 32)
    np.testing.assert_array_equal(np.bincount(table.labels), [1000] * 10)
    assert table.test is not None
    np.testing.assert_array_equal(np.bincount(table.test.labels), [200] * 10)

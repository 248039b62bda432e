"""Image datasets: folders and archives of pictures, CH-MNIST, and CIFAR's binary files.

Pictures of people are hostile input until decoded: archives are read in memory only, the size in
a picture's header is checked before its pixels are decoded, and only common formats are tried.
"""

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from privet.data.archives import member, members
from privet.data.table import Table
from privet.errors import DataError, OptionError
from privet.progress import track

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_MOST_BYTES = 1 << 26  # of one compressed picture
_MOST_PIXELS = 1 << 24  # of one decoded picture
_MOST_VALUES = 1 << 32  # of a whole dataset: 16 GiB as float32
_CH_MNIST_CLASS = re.compile(r"0[1-8]_[A-Z]+")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class _Picture:
    """One picture file: where it lies in its dataset, and its compressed content."""

    place: PurePosixPath
    content: bytes

    @property
    def label(self) -> str:
        return self.place.parent.name

    @property
    def held_out(self) -> bool:
        return self.place.parent.parent.name == "test"

    @property
    def root(self) -> PurePosixPath:
        """The folder of class folders, without its split into ``train`` and ``test``."""
        above = self.place.parent.parent
        return above.parent if above.name in ("train", "test") else above


def load_images(path: Path, *, name: str | None = None) -> Table:
    """Read pictures from a folder, tar or zip that holds one folder a class.

    The layout is ``<class>/<picture>``, or ``train/<class>/<picture>`` with an optional
    ``test/<class>/<picture>`` that becomes the ``test`` table; in an archive either may lie inside
    one more folder. Classes are named after their folders and numbered in the order of their names,
    rows in the order of theirs.
    All pictures have one size; gray ones become RGB.

    Raises
    ------
    DataError
        Naming the picture that is damaged, oversized, of another size, or out of place.
    OptionError
        When Pillow is not installed.
    """
    return _table(_pictures(path), str(path), name=name or path.stem, size=None)


def load_ch_mnist(folder: Path) -> Table:
    """Read CH-MNIST: 5,000 tiles of histology slides, 8 tissues, 3 x 64 x 64.

    The publisher's tiles are 150 x 150; they are scaled down with Pillow's bilinear filter, which
    averages over all pixels it covers. Pictures outside the eight class folders are ignored, so
    a copy that bundles the publisher's larger pictures does as well.
    """
    path = folder / "Kather_texture_2016_image_tiles_5000.zip"
    tiles = (p for p in _pictures(path) if _CH_MNIST_CLASS.fullmatch(p.label))
    return _table(tiles, str(path), name="ch-mnist", size=(64, 64))


def load_cifar10(folder: Path) -> Table:
    """Read CIFAR-10 from its *binary* archive: 50,000 + 10,000 images, 3 x 32 x 32.

    The publisher offers the same images as Python pickles too; those are left alone, since
    reading a pickle can run code.
    """
    path = folder / "cifar-10-binary.tar.gz"
    names = [f"cifar-10-batches-bin/data_batch_{batch}.bin" for batch in range(1, 6)]
    test = _cifar(path, ["cifar-10-batches-bin/test_batch.bin"], label_bytes=1, classes=10)
    train = _cifar(path, names, label_bytes=1, classes=10)
    return Table(*train, classes=10, name="cifar10", test=Table(*test, 10, "cifar10 (test)"))


def load_cifar100(folder: Path) -> Table:
    """Read CIFAR-100, fine labels, from its *binary* archive (see `load_cifar10`)."""
    path = folder / "cifar-100-binary.tar.gz"
    test = _cifar(path, ["cifar-100-binary/test.bin"], label_bytes=2, classes=100)
    train = _cifar(path, ["cifar-100-binary/train.bin"], label_bytes=2, classes=100)
    return Table(*train, classes=100, name="cifar100", test=Table(*test, 100, "cifar100 (test)"))


def _cifar(
    path: Path, names: list[str], *, label_bytes: int, classes: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read records of label bytes (the last one counts) and 3 x 32 x 32 bytes, channels first."""
    width = label_bytes + 3 * 32 * 32
    parts = []
    for name in track(names, f"reading {path.name}"):
        with member(path, name) as (stream, _):
            content = stream.read()
        if not content or len(content) % width:
            raise DataError(
                f"{path}:{name} has {len(content)} bytes, not a multiple of {width}; "
                "it is cut short or of another format"
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, width)
        bad = np.flatnonzero(records[:, label_bytes - 1] >= classes)
        if bad.size:
            raise DataError(
                f"{path}:{name}, record {bad[0]}: label {records[bad[0], label_bytes - 1]} "
                f"is not in 0..{classes - 1}"
            )
        parts.append(records)
    records = np.concatenate(parts)
    pixels = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    return _scaled(pixels), records[:, label_bytes - 1].astype(np.int64)


def _scaled(pixels: Pixels) -> NDArray[np.float32]:
    scaled = pixels.astype(np.float32)
    scaled /= 255
    return scaled


def _pictures(path: Path) -> Iterable[_Picture]:
    if not path.is_dir():
        found = members(path, SUFFIXES, _MOST_BYTES)
        return (_Picture(PurePosixPath(name), content) for name, content in found)
    files = (
        file
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    return (
        _Picture(PurePosixPath(file.relative_to(path).as_posix()), _content(file)) for file in files
    )


def _content(file: Path) -> bytes:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise DataError(f"{file} has more than {_MOST_BYTES} bytes, too many for a picture")
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from None


def _table(
    pictures: Iterable[_Picture], where: str, *, name: str, size: tuple[int, int] | None
) -> Table:
    """Decode all pictures and sort them into classes and splits; ``size`` is (width, height)."""
    pillow = _pillow()
    decoded: list[tuple[_Picture, Pixels]] = []
    for picture in track(pictures, f"reading {name}"):
        pixels = _decode(pillow, picture, where, size=size)
        if decoded and pixels.shape != decoded[0][1].shape:
            raise DataError(
                f"{where}: {picture.place} is {_size(pixels)}, {decoded[0][0].place} "
                f"is {_size(decoded[0][1])}; scale all pictures to one size first"
            )
        if (len(decoded) + 1) * pixels.size > _MOST_VALUES:
            raise DataError(f"{where}: more than {_MOST_VALUES} pixel values do not fit in memory")
        # Compressed content is no longer needed, and would double the memory.
        decoded.append((_Picture(picture.place, b""), pixels))
    if not decoded:
        raise DataError(f"{where} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    decoded.sort(key=lambda item: item[0].place)
    _check_layout([picture for picture, _ in decoded], where)
    held_out = [item for item in decoded if item[0].held_out]
    train = [item for item in decoded if not item[0].held_out]
    classes = sorted({picture.label for picture, _ in train})
    strangers = {picture.label for picture, _ in held_out} - set(classes)
    if strangers:
        raise DataError(f"{where}: test class {min(strangers)!r} is not among those of train")
    test = _stack(held_out, classes, name=f"{name} (test)", test=None) if held_out else None
    return _stack(train, classes, name=name, test=test)


def _check_layout(pictures: list[_Picture], where: str) -> None:
    loose = next((picture for picture in pictures if not picture.label), None)
    if loose is not None:
        raise DataError(f"{where}: {loose.place} lies in no class folder")
    roots = sorted({str(picture.root) for picture in pictures})
    if len(roots) > 1:
        raise DataError(
            f"{where}: class folders lie in {roots[0]!r} and in {roots[1]!r}; expected "
            "<class>/<picture>, or train/<class>/<picture> and test/<class>/<picture>"
        )
    if all(picture.held_out for picture in pictures):
        raise DataError(f"{where}: all pictures lie in test/; train/ is missing")


def _stack(
    decoded: list[tuple[_Picture, Pixels]], classes: list[str], *, name: str, test: Table | None
) -> Table:
    number = {label: index for index, label in enumerate(classes)}
    labels = np.array([number[picture.label] for picture, _ in decoded], dtype=np.int64)
    pixels = np.stack([pixels for _, pixels in decoded]).transpose(0, 3, 1, 2)
    return Table(
        np.ascontiguousarray(_scaled(pixels)),
        labels,
        classes=len(classes),
        name=name,
        test=test,
        class_names=tuple(classes),
    )


def _decode(
    pillow: ModuleType, picture: _Picture, where: str, *, size: tuple[int, int] | None
) -> Pixels:
    """Return a picture's pixels, shape (height, width, 3)."""
    try:
        with pillow.open(io.BytesIO(picture.content), formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise DataError(
                    f"{where}: {picture.place} claims {image.width} x {image.height} pixels; "
                    f"more than {_MOST_PIXELS} are refused"
                )
            if image.mode.startswith(("I", "F")):
                raise DataError(
                    f"{where}: {picture.place} has more than 8 bits a channel; convert it to 8"
                )
            rgb = image.convert("RGB")
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise DataError(f"{where}: {picture.place} is not a sound picture ({error})") from None
    if size is not None and rgb.size != size:
        rgb = rgb.resize(size, pillow.Resampling.BILINEAR)
    return np.asarray(rgb)


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError:
        raise OptionError("reading pictures needs Pillow: pip install 'privet[train]'") from None
    return Image

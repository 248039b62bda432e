"""The networks by name, and which of them suit which data."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, sqrt

from privet.errors import OptionError
from privet.models.base import LEAST_SIDE, Architecture
from privet.models.densenet import DenseNet121
from privet.models.fully_connected import FullyConnected
from privet.models.lstm import LSTM
from privet.models.resnet import ResNet18
from privet.models.vgg import VGG16
from privet.models.vit import ViT

ARCHITECTURES: Mapping[str, type[Architecture]] = {
    "fc": FullyConnected,
    "resnet18": ResNet18,
    "vgg16": VGG16,
    "densenet121": DenseNet121,
    "vit": ViT,
    "lstm": LSTM,
}

_FOR_IMAGES: Mapping[str, Callable[[int], Architecture]] = {
    "resnet18": ResNet18,
    "vgg16": VGG16,
    "densenet121": DenseNet121,
    "vit": ViT,
}


def architecture_for(name: str, *, row_shape: Sequence[int], classes: int) -> Architecture:
    """Return the network of that name, made for rows of one shape.

    ``fc`` is WeMem's for tables: 256 and 128 hidden units, dropout 0.1. ``lstm`` reads a flat row
    of c columns in steps of ceil(sqrt(c)) columns. The networks for images have their papers'
    width.

    Parameters
    ----------
    name
        One of `ARCHITECTURES`.
    row_shape
        Shape of one row: (features,), (steps, features), or (3, height, width) with both at
        least 8.
    classes
        Number of output logits.

    Raises
    ------
    OptionError
        For an unknown name, and for a network that does not take such rows.
    """
    if name not in ARCHITECTURES:
        raise OptionError(f"there is no model {name!r}; choose from {', '.join(ARCHITECTURES)}")
    rows = _kind(row_shape)
    if name in _FOR_IMAGES and rows == "images":
        return _FOR_IMAGES[name](classes)
    if name == "fc" and rows == "tables":
        return FullyConnected(row_shape[0], (256, 128), classes, dropout=0.1)
    if name == "lstm" and rows == "tables":
        return LSTM(ceil(sqrt(row_shape[0])), classes)
    if name == "lstm" and rows == "sequences":
        return LSTM(row_shape[1], classes)
    raise OptionError(
        f"model {name} does not take {rows}, such as rows of shape {tuple(row_shape)}; "
        f"{default_for(row_shape)} does"
    )


def default_for(row_shape: Sequence[int]) -> str:
    """Return the name of the usual network: fc for tables, lstm for sequences, else resnet18."""
    return {"tables": "fc", "sequences": "lstm", "images": "resnet18"}[_kind(row_shape)]


def _kind(row_shape: Sequence[int]) -> str:
    """Return what rows of that shape are."""
    if min(row_shape, default=0) >= 1:
        if len(row_shape) < 3:
            return ("tables", "sequences")[len(row_shape) - 1]
        if len(row_shape) == 3 and row_shape[0] == 3 and min(row_shape[1:]) >= LEAST_SIDE:
            return "images"
    raise OptionError(
        f"no model takes rows of shape {tuple(row_shape)}; they take (features,), (steps, "
        f"features), or (3, height, width) of at least {LEAST_SIDE} pixels a side"
    )

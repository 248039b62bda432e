"""Networks of the papers and of the user, their plain descriptions, and loading weights.

To add an architecture: write one file with a frozen dataclass of plain numbers that satisfies
`Architecture`, and give it a row in `ARCHITECTURES`.
"""

from privet.models.base import Architecture
from privet.models.counts import linear_layers, macs, multiply_accumulates, nonzero, parameters
from privet.models.densenet import DenseNet121
from privet.models.factory import Factory
from privet.models.fully_connected import FullyConnected
from privet.models.lstm import LSTM
from privet.models.registry import ARCHITECTURES, architecture_for, default_for
from privet.models.resnet import ResNet18
from privet.models.spec import describe, from_description
from privet.models.vgg import VGG16
from privet.models.vit import ViT
from privet.models.weights import load_weights, reinitialized

__all__ = [
    "ARCHITECTURES",
    "LSTM",
    "VGG16",
    "Architecture",
    "DenseNet121",
    "Factory",
    "FullyConnected",
    "ResNet18",
    "ViT",
    "architecture_for",
    "default_for",
    "describe",
    "from_description",
    "linear_layers",
    "load_weights",
    "macs",
    "multiply_accumulates",
    "nonzero",
    "parameters",
    "reinitialized",
]

"""Residual networks, CIFAR size."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import relu

from privet.models.base import check_image_network

STAGES = ((1, 1), (2, 2), (4, 2), (8, 2))
"""Channels of each stage as a multiple of the first's, and the stride it begins with."""
BLOCKS = 2


@dataclass(frozen=True)
class ResNet18:
    """ResNet-18 with a 3 x 3 stem and no max-pooling, for images as small as CIFAR's.

    He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, CVPR 2016, table 1. The
    stem, which keeps the resolution, is that of its section 4.2, as is common for CIFAR; shortcuts
    that change shape are convolutions (option B). Initial weights are torch's. The network takes
    images of shape (n, 3, height, width), at least 8 pixels a side.

    Parameters
    ----------
    classes
        Number of output logits.
    width
        Channels of the first stage; 64 is the paper's.
    """

    classes: int
    width: int = 64

    def __post_init__(self) -> None:
        check_image_network("ResNet-18", classes=self.classes, width=self.width)

    def build(self) -> nn.Sequential:
        """Return the network, freshly initialized from torch's global generator."""
        layers: list[nn.Module] = [
            nn.Conv2d(3, self.width, 3, padding=1, bias=False),
            nn.BatchNorm2d(self.width),
            nn.ReLU(),
        ]
        channels = self.width
        for factor, first in STAGES:
            for block in range(BLOCKS):
                stride = first if block == 0 else 1
                layers.append(ResidualBlock(channels, factor * self.width, stride=stride))
                channels = factor * self.width
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, self.classes))
        return nn.Sequential(*layers, *head)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (the paper's figure 5, left)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, outputs, height / stride, width / stride)."""
        return relu(self.body(images) + self.shortcut(images))

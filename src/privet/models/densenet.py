"""Densely connected networks, CIFAR size."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privet.models.base import check_image_network

BLOCKS = (6, 12, 24, 16)
BOTTLENECK = 4


@dataclass(frozen=True)
class DenseNet121:
    """DenseNet-121 (bottlenecks, compression 0.5), for images as small as CIFAR's.

    Huang, Liu, van der Maaten & Weinberger, Densely Connected Convolutional Networks, CVPR 2017,
    table 1. As is common for CIFAR, the stem is one 3 x 3 convolution that keeps the resolution.
    Initial weights are torch's. The network takes images of shape (n, 3, height, width), at
    least 8 pixels a side.

    Parameters
    ----------
    classes
        Number of output logits.
    width
        Channels of the stem, twice the growth rate, so even; 64 is the paper's.
    """

    classes: int
    width: int = 64

    def __post_init__(self) -> None:
        check_image_network("DenseNet-121", classes=self.classes, width=self.width, multiple=2)

    def build(self) -> nn.Sequential:
        """Return the network, freshly initialized from torch's global generator."""
        growth = self.width // 2
        layers: list[nn.Module] = [nn.Conv2d(3, self.width, 3, padding=1, bias=False)]
        channels = self.width
        for position, count in enumerate(BLOCKS):
            if position > 0:
                halved = nn.Conv2d(channels, channels // 2, 1, bias=False)
                layers += [nn.BatchNorm2d(channels), nn.ReLU(), halved, nn.AvgPool2d(2)]
                channels //= 2
            for _ in range(count):
                layers.append(DenseLayer(channels, growth))
                channels += growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, self.classes))
        return nn.Sequential(*layers, *head)


class DenseLayer(nn.Module):
    """A bottleneck whose outputs join its inputs (the paper's section 3)."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        between = BOTTLENECK * growth
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, between, 1, bias=False),
            nn.BatchNorm2d(between),
            nn.ReLU(),
            nn.Conv2d(between, growth, 3, padding=1, bias=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, inputs + growth, height, width)."""
        return torch.cat([images, self.body(images)], 1)

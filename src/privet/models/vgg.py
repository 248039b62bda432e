"""VGG networks, CIFAR size."""

from dataclasses import dataclass

from torch import nn

from privet.models.base import check_image_network

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Channels of each stage as a multiple of the first's, and its number of convolutions."""


@dataclass(frozen=True)
class VGG16:
    """VGG-16 with batch normalization, for images as small as CIFAR's.

    Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
    ICLR 2015, configuration D; batch normalization (Ioffe & Szegedy, ICML 2015) follows each
    convolution. As is common for CIFAR, global average pooling and one linear layer stand in for
    the paper's three. Pooling rounds sizes up, so that images smaller than CIFAR's pass its five
    stages; at 32 pixels a side that changes nothing. Initial weights are torch's. The network
    takes images of shape (n, 3, height, width), at least 8 pixels a side.

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
        check_image_network("VGG-16", classes=self.classes, width=self.width)

    def build(self) -> nn.Sequential:
        """Return the network, freshly initialized from torch's global generator."""
        layers: list[nn.Module] = []
        channels = 3
        for factor, convolutions in STAGES:
            for _ in range(convolutions):
                layers.append(nn.Conv2d(channels, factor * self.width, 3, padding=1))
                channels = factor * self.width
                layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, self.classes))
        return nn.Sequential(*layers, *head)

"""Vision transformers, small size."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privet.errors import OptionError
from privet.models.base import check_image_network

PATCH = 4
EXPANSION = 4


@dataclass(frozen=True)
class ViT:
    """A small pre-norm vision transformer on patches of 4 x 4 pixels.

    Dosovitskiy et al., An Image Is Worth 16x16 Words: Transformers for Image Recognition at
    Scale, ICLR 2021, section 3.1. Three deviations, so that the network takes images of any size
    and that structural pruning can shrink all of it: the tokens are averaged (appendix D.3)
    instead of read from a class token; a depthwise convolution tells where a token is (Chu et
    al., Conditional Positional Encodings for Vision Transformers, ICLR 2023) instead of a learned
    table; each head has linear layers of its own, the same function as one large layer, and so
    may lose units without the others. No dropout. Initial weights are torch's. The network takes
    images of shape (n, 3, height, width), at least 8 pixels a side; what does not fill a patch is
    left out.

    Parameters
    ----------
    classes
        Number of output logits.
    width
        Entries of a token, a multiple of ``heads``. The paper's smallest, made for ImageNet, has
        768 in 12 blocks of 12 heads.
    depth
        Number of blocks, 1 to 100.
    heads
        Attention heads a block, 1 to 100.
    """

    classes: int
    width: int = 64
    depth: int = 6
    heads: int = 4

    def __post_init__(self) -> None:
        for name, count in (("depth", self.depth), ("heads", self.heads)):
            if not 1 <= count <= 100:
                raise OptionError(f"the {name} of ViT must lie in 1..100; got {count}")
        check_image_network("ViT", classes=self.classes, width=self.width, multiple=self.heads)

    def build(self) -> nn.Sequential:
        """Return the network, freshly initialized from torch's global generator."""
        return nn.Sequential(
            Patches(self.width),
            *(EncoderBlock(self.width, self.heads) for _ in range(self.depth)),
            nn.LayerNorm(self.width),
            TokenMean(),
            nn.Linear(self.width, self.classes),
        )


class Patches(nn.Module):
    """From images to tokens that know where they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, PATCH, stride=PATCH)
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, tokens, width)."""
        grid = self.embed(images)
        grid = grid + self.position(grid)
        return torch.flatten(grid, 2).transpose(1, 2)


class EncoderBlock(nn.Module):
    """Attention, then a perceptron, each normalized before and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, EXPANSION * width),
            nn.GELU(),
            nn.Linear(EXPANSION * width, width),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (n, tokens, width)."""
        tokens = tokens + self.attention(tokens)
        added: Tensor = self.perceptron(tokens)
        return tokens + added


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al., NeurIPS 2017, section 3.2.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(width, width // heads) for _ in range(heads))
        self.merge = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (n, tokens, width)."""
        # Minus one and not two: DepGraph follows concatenated units only along the last axis.
        merged: Tensor = self.merge(torch.cat([head(tokens) for head in self.heads], -1))
        return merged


class Head(nn.Module):
    """Scaled dot-product attention of one head.

    The scale stays that of the dense head when units are pruned: removing units that are zero
    then changes nothing.
    """

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, units) for _ in range(3))
        self.scale = units**-0.5

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (n, tokens, units)."""
        alike = torch.bmm(self.query(tokens) * self.scale, self.key(tokens).transpose(1, 2))
        value: Tensor = self.value(tokens)
        return torch.bmm(alike.softmax(-1), value)


class TokenMean(nn.Module):
    """The mean over tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (n, width)."""
        return tokens.mean(1)

"""One small network of each architecture, with inputs, and pruning that halves its layers."""

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from privet.models import LSTM, VGG16, Architecture, DenseNet121, FullyConnected, ResNet18, ViT

IMAGES: dict[str, Architecture] = {
    "resnet18": ResNet18(5, 8),
    "vgg16": VGG16(5, 8),
    "densenet121": DenseNet121(5, 4),
    "vit": ViT(5, 8, depth=2, heads=2),
}
SMALL: dict[str, Architecture] = {
    "fc": FullyConnected(12, (8, 6), 5, dropout=0.1),
    **IMAGES,
    "lstm": LSTM(4, 5, 8),
}

REPARAMETRIZED = {
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "parametrized weight_norm": parametrizations.weight_norm,
    "parametrized spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}
"""From a layer to one whose weight is computed from other parameters."""


def inputs_for(name: str, *, count: int = 3) -> Tensor:
    shape = {"fc": (12,), "lstm": (14,)}.get(name, (3, 16, 12))
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def halved(network: nn.Module, example: Tensor) -> nn.Module:
    """Remove a random half of the units of every group, the classes excepted."""
    graph = tp.DependencyGraph().build_dependency(network, example_inputs=example)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    for group in graph.get_all_groups(ignored_layers=[last]):
        root, units = group[0].dep, len(group[0].idxs)
        gone = torch.randperm(units)[: units // 2].tolist()
        graph.get_pruning_group(root.target.module, root.handler, gone).prune()
    return network

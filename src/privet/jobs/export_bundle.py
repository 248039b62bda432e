"""`privet export BUNDLE`: a bundle's defense model as ONNX, for runtimes other than privet's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from privet.device import Bundle, Network, load_bundle
from privet.device.bundle import mode_of
from privet.device.network import Float32
from privet.errors import DataError, OptionError
from privet.files import replacing
from privet.onnx_file import TOLERANCE, write_onnx
from privet.seeds import generator

RECORDS = 16
PRESENT = 0.1
"""Records that answers are compared on, and the share of a record's features that it has."""


def export_bundle(path: Path, out: Path) -> dict[str, Any]:
    """Write the defense model of the bundle at ``path`` to ``out`` as ONNX; return what it is.

    The file computes logits from records (attribute: one a feature, in the bundle's order) or
    from confidences **sorted ascending** (membership). It is the network alone, without the search,
    the settings or the card, and in float32, whatever precision the bundle stores: an int8 tier
    becomes four times its size, with the same answers. A membership bundle is a secret of
    whoever serves the classifier, and so is this file: nobody but its owner may read it.

    Nothing is written unless torch answers synthetic records as the device's own NumPy network
    does, and ONNX Runtime as torch (`privet.onnx_file.write_onnx`), each to 1e-4 times the
    largest logit, or 1e-4 if that is more.

    Parameters
    ----------
    path
        A bundle of either kind.
    out
        Ends in ``.onnx``.

    Returns
    -------
    ``file``, ``bytes``, ``kind``, ``digest`` (the bundle's), ``layers`` (sizes from input to
    output), and the largest absolute differences found: ``difference`` (ONNX Runtime to torch) and
    ``device_difference`` (torch to the device).

    Raises
    ------
    BundleError
        When the bundle cannot be read.
    OptionError
        When ``out`` has another ending or is the bundle itself, or packages are missing.
    DataError
        When answers differ.
    """
    if out.suffix.lower() != ".onnx":
        raise OptionError(f"a defense model is written as .onnx; got {out}")
    if out.resolve() == path.resolve():
        raise OptionError(f"{out} is the bundle itself; choose another place for the ONNX file")
    bundle = load_bundle(path)
    records = _records(bundle)
    network = to_torch(bundle.network)
    apart = _difference(bundle.network, network, records)
    with replacing(out, mode=mode_of(bundle)) as temporary:
        difference = write_onnx(temporary, network, torch.from_numpy(records))
    return {
        "file": str(out),
        "bytes": out.stat().st_size,
        "kind": bundle.kind,
        "digest": bundle.digest,
        "layers": list(bundle.network.sizes),
        "difference": difference,
        "device_difference": apart,
    }


def export_tiers(tiers: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Export the bundles of a finished build in ``folder``, each as ``.onnx`` beside it.

    Parameters
    ----------
    tiers
        The build's tiers; those whose ``bundle`` is None have none to export.

    Returns
    -------
    What `export_bundle` returns, one entry a bundle.
    """
    bundles = [folder / Path(tier["bundle"]).name for tier in tiers if tier["bundle"]]
    return [export_bundle(path, path.with_suffix(".onnx")) for path in bundles]


def to_torch(network: Network) -> nn.Sequential:
    """Return a device's network as torch modules, its weights copied."""
    layers: list[nn.Module] = []
    for weight, bias in zip(network.weights, network.biases, strict=True):
        # Real initial weights would come from torch's global generator.
        linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        linear.weight = nn.Parameter(torch.tensor(weight))
        linear.bias = nn.Parameter(torch.tensor(bias))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def _records(bundle: Bundle) -> Float32:
    """Return synthetic inputs of the bundle's kind, shape (RECORDS, features)."""
    rng = generator(0, "export bundle")
    values = rng.random((RECORDS, bundle.features))
    if bundle.kind == "membership":
        shares = np.sort(-np.log1p(-values), axis=1)
        shares /= shares.sum(axis=1, keepdims=True)
        return shares.astype(np.float32)
    values *= rng.random(values.shape) < PRESENT
    values[0] = 0  # shows the biases alone
    return values.astype(np.float32)


def _difference(expected: Network, network: nn.Module, records: Float32) -> float:
    """Return how far torch's logits are from the device's; `DataError` if too far."""
    logits = expected.logits(records)
    with torch.no_grad():
        found = network(torch.from_numpy(records)).numpy()
    allowed = TOLERANCE * max(1.0, float(np.abs(logits).max()))
    difference = float(np.abs(found - logits).max())
    if not difference <= allowed:
        raise DataError(
            f"torch answers otherwise than the device's network: logits differ by "
            f"{difference:.3g}, and {allowed:.3g} is allowed"
        )
    return difference

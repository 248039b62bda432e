"""A pruned network as ONNX, checked against torch before the file is there.

Removed layers' units are gone from the file. Single weights that pruning zeroed stay in it as
zeros: ONNX Runtime, like most runtimes, multiplies dense matrices only, and ONNX's own sparse
tensors spend eight bytes an index, more than they save below two thirds of zeros. Compression
(``gzip``) takes the zeros out for storage and transport.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from copy import deepcopy
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from privet.errors import DataError, OptionError
from privet.files import replacing

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INPUTS, LOGITS = "inputs", "logits"
TOLERANCE = 1e-4
ROWS = 7
ONLY_ERRORS = 3


def write_onnx(path: Path | str, network: nn.Module, example: Tensor) -> float:
    """Write a network to ``path`` atomically, once ONNX Runtime answers there as torch does.

    The file has one input, ``inputs``, and one output, ``logits``; the number of rows is free.
    It is the network in evaluation mode, on the CPU. The exporter's notes, which hold paths and
    lines of source code, are removed.

    Parameters
    ----------
    example
        Inputs such as the network takes, shape (n, ...), n >= 1. On these, on the first row
        alone, and on seven rows of their entries mixed up (with unit Gaussian noise, if they are
        floats), the two may differ by at most 1e-4 times the largest logit, or 1e-4 if that is
        more. A network that does not take such noise, or entries in other places, as one of token
        ids may not, is asked without.

    Returns
    -------
    The largest absolute difference found.

    Raises
    ------
    OptionError
        When packages are missing.
    DataError
        When the network cannot be expressed in ONNX, or ONNX Runtime answers otherwise. ``path``
        then stays as it was.
    """
    _require_packages()
    if len(example) == 0:
        raise OptionError("writing ONNX needs an example of at least one row")
    network = deepcopy(network).cpu().eval()
    example = example.detach().cpu()
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(_exported(network, example))
        return _checked(temporary, network, example)


def _require_packages() -> None:
    for name in PACKAGES:
        try:
            import_module(name)
        except ImportError:
            raise OptionError(
                f"ONNX files need the package {name}: pip install 'privet[onnx]'"
            ) from None


def _exported(network: nn.Module, example: Tensor) -> bytes:
    """Return the network as an ONNX model's bytes."""
    # The exporter would take a batch of one row for a constant.
    batch = torch.cat([example, example])
    try:
        with _quietly():
            program = torch.onnx.export(
                network,
                (batch,),
                dynamo=True,
                verbose=False,
                input_names=[INPUTS],
                output_names=[LOGITS],
                dynamic_shapes=({0: "batch"},),
            )
        assert program is not None  # noqa: S101 (a file name was not given)
        model = program.model_proto
        _strip(model)
        return bytes(model.SerializeToString())
    # The last is what protobuf raises beyond 2 GiB.
    except (torch.onnx.errors.OnnxExporterError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise DataError(
            f"the network cannot be written as ONNX ({reason}); write it as .safetensors"
        ) from None


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence one harmless warning, and what the exporter logs and prints beside its errors."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _strip(message: Any) -> None:
    """Remove notes from a protobuf message and all messages inside."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            repeated = hasattr(value, "__len__")
            for part in value if repeated else (value,):
                _strip(part)


def _checked(path: Path, network: nn.Module, example: Tensor) -> float:
    """Return the largest difference between ONNX Runtime and torch; `DataError` if too large."""
    answer = _answering(path)
    largest = 0.0
    for inputs in (example, example[:1], _mixed(network, example)):
        with torch.no_grad():
            expected = network(inputs)
        allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
        difference = float((answer(inputs) - expected).abs().max())
        if not difference <= allowed:
            raise DataError(
                f"ONNX Runtime answers otherwise than torch: logits differ by {difference:.3g}, "
                f"and {allowed:.3g} is allowed; write the network as .safetensors"
            )
        largest = max(largest, difference)
    return largest


def _answering(path: Path) -> Callable[[Tensor], Tensor]:
    """Return ONNX Runtime's function of a file's network."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONLY_ERRORS

    @contextmanager
    def refusing() -> Iterator[None]:
        try:
            yield
        except Exception as error:  # ONNX Runtime's own have no other base
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"ONNX Runtime does not run the network ({reason}); write it as .safetensors"
            ) from None

    with refusing():
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def answer(inputs: Tensor) -> Tensor:
        with refusing():
            return torch.from_numpy(session.run([LOGITS], {INPUTS: inputs.numpy()})[0])

    return answer


def _mixed(network: nn.Module, example: Tensor) -> Tensor:
    """Return seven rows unlike the example's, or its own again if torch takes no others."""
    generator = torch.Generator().manual_seed(0)
    shape = (ROWS, *example.shape[1:])
    mixed = example.flatten()[torch.randint(example.numel(), shape, generator=generator)]
    unlike = [mixed]
    if mixed.is_floating_point():
        unlike.insert(0, mixed + torch.randn(shape, generator=generator))
    taken = (rows for rows in unlike if _takes(network, rows))
    return next(taken, example[torch.arange(ROWS) % len(example)])


def _takes(network: nn.Module, inputs: Tensor) -> bool:
    try:
        with torch.no_grad():
            network(inputs)
    except Exception:  # a network of the user's own may raise anything
        return False
    return True

"""`privet export`: the network of a finished run as one file for others to use."""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from privet.data.registry import DATASETS
from privet.defenses import Serves, choose
from privet.errors import DataError, OptionError
from privet.jobs.cases import Source, reopen_case
from privet.jobs.inputs import dense
from privet.jobs.stages import RunFolder, read_run
from privet.models import (
    Architecture,
    Factory,
    from_description,
    load_weights,
    nonzero,
    parameters,
)
from privet.onnx_file import write_onnx
from privet.pruned_file import write_pruned

ROWS = 16
"""Test rows that ONNX Runtime and torch are compared on."""
TOLD = (
    "defense",
    "defense_options",
    "pruner",
    "sparsity",
    "train_accuracy",
    "test_accuracy",
    "dense_test_accuracy",
    "guarantee",
    "parameters",
    "nonzero",
    "dense_parameters",
    "versions",
)
"""What a file tells of its network. Not the seed: it says who trained, to whoever has the data."""

logger = logging.getLogger(__name__)


def export_run(folder: Path, out: Path, *, half: bool = False) -> dict[str, Any]:
    """Write the pruned network of a run's folder to ``out``; return what was written.

    Parameters
    ----------
    out
        Ends in ``.safetensors`` (`privet.pruned_file`) or ``.onnx`` (`privet.onnx_file`). For
        ONNX, the run's data must be at hand: the file is checked on its test rows.
    half
        Whether to store weights in float16; for safetensors only.

    Returns
    -------
    ``file``, ``bytes``, ``dense_bytes`` (the network before pruning as safetensors),
    ``parameters``, ``nonzero``, ``answers_changed_by`` (the defense that a service must apply to
    the network's answers, or None), and for ONNX ``difference``: the largest between its logits
    and torch's.

    Raises
    ------
    OptionError
        When ``out`` has another ending or lies among the run's own files, or packages are missing.
    DataError
        When the run is not finished, or cannot be exported so.
    """
    kind = _kind(folder, out, half=half)
    run = read_run(folder, "prune")
    architecture, network = _network(run)
    defense = run.result["defense"] if run.result else ""
    changed_by = defense if isinstance(choose(defense, {}), Serves) else None
    written: dict[str, Any] = {}
    if kind == ".onnx":
        written["difference"] = write_onnx(out, network, _example(run))
    else:
        about = {**_about(run), "answers_changed_by": changed_by}
        write_pruned(out, network, architecture, about=about, half=half)
    if changed_by:
        logger.warning(
            "%s also changes a service's answers; the file holds the network without that, which "
            "leaks more than the audit says",
            changed_by,
        )
    return {
        "file": str(out),
        "bytes": out.stat().st_size,
        "dense_bytes": (folder / "stages" / "dense.safetensors").stat().st_size,
        "parameters": parameters(network),
        "nonzero": nonzero(network),
        "answers_changed_by": changed_by,
        **written,
    }


def _kind(folder: Path, out: Path, *, half: bool) -> str:
    """Return how ``out`` ends, in small letters."""
    kind = out.suffix.lower()
    if kind not in (".safetensors", ".onnx"):
        raise OptionError(f"--out names a file that ends in .safetensors or .onnx; got {out}")
    if half and kind == ".onnx":
        raise OptionError(f"--half is for .safetensors files; {out} is computed as it is stored")
    if folder.resolve() in out.resolve().parent.parents:
        raise OptionError(f"{out} lies among the run's own files; choose another --out")
    return kind


def _network(run: RunFolder) -> tuple[Architecture, nn.Module]:
    """Return a run's pruned network, and what built it."""
    finished = run.recall("model")
    if run.result is None or finished is None:
        raise DataError(f"the run in {run.path} is not finished; repeat its `privet prune` command")
    record, tensors = finished
    if "architecture" not in record:
        raise DataError(f"the run in {run.path} is of another version of privet; prune again")
    source = run.record["settings"]["model"]
    # A run's own settings may name code, as its user did.
    architecture = Factory(source) if ":" in source else from_description(record["architecture"])
    network = architecture.build()
    load_weights(network, tensors)
    return architecture, network


def _example(run: RunFolder) -> Any:
    """Return some rows of the run's test set."""
    settings = run.record["settings"]
    if not {*Source.__dataclass_fields__, "data", "weights_digest"} <= set(settings):
        raise DataError(f"the run in {run.path} is of another version of privet; prune again")
    made = reopen_case(settings).made
    return dense(made.table, made.split.test[:ROWS])[0]


def _about(run: RunFolder) -> dict[str, Any]:
    """Return what the file tells of its network; paths of the user's disk stay untold."""
    result = run.result or {}
    dataset = result["dataset"]
    return {
        "dataset": dataset if dataset in DATASETS else Path(dataset).name,
        **{name: result.get(name) for name in TOLD},
    }

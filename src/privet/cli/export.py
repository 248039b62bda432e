"""`privet export`: a pruned network, or a bundle's defense model, as a file for others to use."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from privet.cli.console import Json, answer, progress
from privet.errors import OptionError


def export(
    run: Path,
    *,
    out: Path,
    half: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Write the pruned network of the folder RUN, or the defense model of a bundle, to one file.

    A file that ends in .safetensors holds the weights without their zeros, and what rebuilds the
    network without executing anything: `privet.load_pruned(FILE)` in Python. A file that ends in
    .onnx runs anywhere; it is written only once ONNX Runtime answers test rows as torch does, and
    holds zeros as zeros (compress it).

    A bundle is exported as ONNX, with weights in float32. That of a membership bundle is as secret
    as the bundle.

    Parameters
    ----------
    run
        A folder made by `privet prune`, or a bundle made by `privet protect build`.
    out
        The file to write, which ends in .safetensors or .onnx.
    half
        Store weights in half precision; .safetensors only.
    json
        Print what was written as one JSON object.
    """
    if run.is_file():
        _export_bundle(run, out, half=half, json=json)
        return
    from privet.jobs.export import export_run

    with progress():
        written = export_run(run, out, half=half)
    share = written["bytes"] / written["dense_bytes"]
    lines = [
        f"wrote {out}: {written['bytes']:,} bytes, {share:.0%} of the network before pruning",
        f"{written['nonzero']:,} of {written['parameters']:,} parameters are not zero",
    ]
    if "difference" in written:
        lines.append(f"ONNX Runtime's logits and torch's differ by {written['difference']:.1g}")
    answer(written, *lines, as_json=json)


def _export_bundle(bundle: Path, out: Path, *, half: bool, json: bool) -> None:
    from privet.jobs.export_bundle import export_bundle

    if half:
        raise OptionError("--half is for runs; a bundle is exported as ONNX in float32")
    with progress():
        written = export_bundle(bundle, out)
    answer(
        written,
        f"wrote {out}: {written['bytes']:,} bytes",
        f"ONNX Runtime's logits and torch's differ by {written['difference']:.1g}, torch's and "
        f"the device's by {written['device_difference']:.1g}",
        as_json=json,
    )

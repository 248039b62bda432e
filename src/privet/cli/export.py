"""`privet export`: a pruned network as a file for others to use."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from privet.cli.console import Json, answer, progress


def export(
    run: Path,
    *,
    out: Path,
    half: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Write the pruned network of the folder RUN to one file.

    A file that ends in .safetensors holds the weights without their zeros, and what rebuilds the
    network without executing anything: `privet.load_pruned(FILE)` in Python. A file that ends in
    .onnx runs anywhere; it is written only once ONNX Runtime answers test rows as torch does, and
    holds zeros as zeros (compress it).

    Parameters
    ----------
    run
        A folder made by `privet prune`.
    out
        The file to write, which ends in .safetensors or .onnx.
    half
        Store weights in half precision; .safetensors only.
    json
        Print what was written as one JSON object.
    """
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

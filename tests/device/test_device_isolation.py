import json
import subprocess
import sys

import numpy as np

from privet.device import Bundle, write_bundle
from privet.device.quantize import PRECISIONS

SCRIPT = """
import sys
for name in ("torch", "scipy", "sklearn", "numba", "socket"):
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from privet.device import load_bundle, load_or_create_key, protect_file
folder = Path(sys.argv[1])
key = load_or_create_key(folder / "key")
for kind, source in (("attribute", "people.txt"), ("membership", "answers.npz")):
    bundle = load_bundle(folder / f"{kind}.safetensors")
    out = folder / f"out-{source}"
    summary = protect_file(folder / source, bundle, budget=1.5, key=key, out=out)
    assert summary["records"] and summary["mean_expected_cost"] <= 1.5, summary
    assert out.stat().st_size
print("protected")
"""

COMMANDS = """
import json
import sys
blocked = ("torch", "scipy", "sklearn", "numba", "matplotlib", "cryptography", "pyarrow", "onnx",
           "onnxruntime", "optuna", "opacus")
for name in blocked:
    sys.modules[name] = None
from privet.cli import run
for command in json.loads(sys.argv[1]):
    status = run(command.split())
    assert status == 0, (status, command)
"""


def test_works_without_torch_scipy_and_network(guesser, detector, ratings, logits, tmp_path):
    write_bundle(Bundle("attribute", guesser), tmp_path / "attribute.safetensors")
    write_bundle(Bundle("membership", detector), tmp_path / "membership.safetensors")
    lines = [" ".join(f"{i}:{x[i]:.1f}" for i in np.flatnonzero(x)) for x in ratings[:20]]
    (tmp_path / "people.txt").write_text("\n".join(lines))
    np.savez(tmp_path / "answers.npz", logits=logits[:10])
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "protected\n", done.stderr


def test_commands_of_the_base_install_need_no_other_package(guesser, detector, ratings, tmp_path):
    names = tuple(f"show {feature}" for feature in range(300))
    (tmp_path / "tiers").mkdir()
    for precision in PRECISIONS:
        path = tmp_path / "tiers" / f"{precision}.safetensors"
        write_bundle(Bundle("attribute", guesser, feature_names=names), path, precision=precision)
    write_bundle(Bundle("membership", detector), tmp_path / "membership.safetensors")
    lines = [",".join(f"{value:g}" for value in record) for record in ratings[:10]]
    (tmp_path / "mine.csv").write_text("\n".join([",".join(names), *lines]) + "\n")
    apply = "protect apply mine.csv --budget 2 --key key"
    commands = [
        f"{apply} --bundle tiers/int8.safetensors --out safe.csv --json",
        f"{apply} --bundle tiers/float16.safetensors --out -",
        f"{apply} --bundle tiers --max-memory 1000 --dry-run --changes see.txt",
        "protect check tiers/int8.safetensors",
        "protect check membership.safetensors --json",
        "protect serve tiers/int8.safetensors --out page",
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMMANDS, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len((tmp_path / "safe.csv").read_text().splitlines()) == 11
    assert "Record" in (tmp_path / "see.txt").read_text()
    assert (tmp_path / "page" / "index.html").stat().st_size > 4 * 300

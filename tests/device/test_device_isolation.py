import subprocess
import sys

import numpy as np

from privet.device import Bundle, write_bundle

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


def test_works_without_torch_scipy_and_network(guesser, detector, ratings, logits, tmp_path):
    write_bundle(Bundle("attribute", guesser), tmp_path / "attribute.safetensors")
    write_bundle(Bundle("membership", detector), tmp_path / "membership.safetensors")
    lines = [" ".join(f"{i}:{x[i]:.1f}" for i in np.flatnonzero(x)) for x in ratings[:20]]
    (tmp_path / "people.txt").write_text("\n".join(lines))
    np.savez(tmp_path / "answers.npz", logits=logits[:10])
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "protected\n", done.stderr

"""Private pruning on networks of every kind: what is left of them, and that each can be audited.

Every network is trained for a few epochs on little data, pruned to 60 % by magnitude and by whole
channels, exported, and audited by attacks that cost nothing. Accuracies only show that they
learn; for what defenses are worth see ``privet reproduce wemem``. A few minutes on two cores.
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

from privet.data import DATASETS, status
from privet.jobs.audit import Settings
from privet.jobs.audit_run import audit_run
from privet.jobs.export import export_run
from privet.jobs.prune import Source, prune_source, recommended

IMAGES = "cifar10-images"
CASES = (
    Source("location", model="fc"),
    Source("digits", model="fc"),
    Source("digits", model="lstm"),
    Source(IMAGES, model="resnet18", width=8, samples=1000),
    Source(IMAGES, model="vgg16", width=8, samples=1000),
    Source(IMAGES, model="densenet121", width=8, samples=1000),
    Source(IMAGES, model="vit", width=32, samples=1000),
)
ATTACKS = ("conf", "mentr", "gap", "lira")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="of dense training and each round")
    epochs = parser.parse_args().epochs
    print("network      data            pruner      accuracy  parameters        MACs  file  AUC")
    for source in CASES:
        if status(DATASETS[source.dataset]) == "missing":
            print(f"{source.model:12} {source.dataset}: not in the data cache")
            continue
        for pruner in ("magnitude", "structural"):
            settings = recommended(
                "base",
                pruner=pruner,
                rounds=2,
                epochs=epochs,
                dense_epochs=epochs,
                learning_rate=3e-3,
            )
            with TemporaryDirectory() as folder:
                run = Path(folder) / "run"
                pruned = prune_source(source, settings, out=run)
                file = export_run(run, Path(folder) / "model.safetensors")
                audit = audit_run(run, Settings(ATTACKS, shadows=2))
            left, macs = (
                pruned[now] / pruned[before]
                for now, before in (("nonzero", "dense_parameters"), ("macs", "dense_macs"))
            )
            strongest = max(finding["auc"] for finding in audit["findings"])
            print(
                f"{source.model:12} {source.dataset:15} {pruner:11} {pruned['test_accuracy']:8.3f}"
                f"  {pruned['nonzero']:7,} {left:4.0%}  {macs:9.0%}"
                f"  {file['bytes'] / file['dense_bytes']:4.0%}  {strongest:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

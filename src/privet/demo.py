"""The guided tour: both of privet's stories on data that needs no download."""

import time
from pathlib import Path
from shlex import quote
from typing import Any

from privet.files import write_bytes, write_json
from privet.jobs.audit import Settings
from privet.jobs.audit_run import audit_run
from privet.jobs.protect import build_protection
from privet.jobs.prune import Source, prune_source, recommended
from privet.jobs.stages import versions
from privet.progress import track
from privet.report import render_html

SHOPPERS = "synthetic-purchases"
RATERS = "synthetic-ratings"
DEFENSES = ("none", "rsw", "distill")
# One or two of each kind that take no time to speak of.
ATTACKS = ("conf", "mentr", "hconf", "gap", "label-only", "calibrated", "lira", "rmia")
INTRO = """\
Two things can go wrong with a network trained on people's data. It can give away who it was \
trained on; and it can be turned on people, to guess what they would rather keep to themselves. \
Pruning helps with both, if done with care.
The data on this page is made up by privet itself, so that the tour needs no download: shoppers \
with 300 yes-or-no purchases each, and users who rated a few of 500 apps."""


def run_demo(out: Path, *, seed: int = 0) -> dict[str, Any]:
    """Prune, audit and protect on synthetic data; write ``report.html`` and ``report.json``.

    Runs and bundles stay in ``out``, where the commands that the tour ends with find them; the
    same call on the same folder reuses them. Returns the JSON.
    """
    started = time.perf_counter()
    pruning = []
    for defense in track(DEFENSES, "pruning under each defense"):
        run = out / f"pruned-{defense}"
        pruned = prune_source(Source(SHOPPERS, seed=seed), recommended(defense), out=run)
        findings = audit_run(run, Settings(ATTACKS, shadows=4, seed=seed, jobs=2))
        pruning.append({"prune": pruned, "audit": findings})
    protection = build_protection(
        RATERS,
        hidden=1000,
        attacker_hidden=1000,
        speedups=(10.0, 20.0),
        bounds={"q": 0.4},
        seed=seed,
        out=out / "bundles",
    )
    document = {
        "title": "privet: the guided tour",
        "intro": INTRO,
        "pruning": pruning,
        "protection": protection,
        "next": [
            f"privet report {quote(str(out / 'pruned-rsw'))}",
            "privet prune YOUR.csv --defense distill --out my-run",
            "privet audit my-run",
            "privet protect build YOUR-RATINGS.csv --out my-bundles",
        ],
        "seconds": time.perf_counter() - started,
        "seed": seed,
        "versions": versions(),
    }
    write_json(out / "report.json", document)
    write_bytes(out / "report.html", render_html(document, "demo").encode())
    return document

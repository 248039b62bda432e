"""Hold privet's attacks against independent implementations of the same attacks.

LiRA, RMIA and calibrated loss against Meta's PrivacyGuard on the same logits; rule-based and
learned black-box attacks of the Adversarial Robustness Toolbox (ART) on the same classifiers.
Figures that must be equal are marked; where definitions differ, the row says how. About a minute
on one core. README.md beside this file tells how to make the environment.

Exit status: 0 if all is equal that must be, 1 if not, 2 if a package is missing.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rows import Row

NEEDED = {
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "privacy_guard": "privacyguard-platform",
    "art": "adversarial-robustness-toolbox",
    "privet": "privet",
}


def show(title: str, rows: "Iterator[Row]") -> bool:
    print(title)
    fine = True
    for row in rows:
        verdict = {True: "equal", False: "NOT EQUAL", None: ""}[row.equal]
        print(f"  {row.what:86} {row.found:27} {verdict}".rstrip(), flush=True)
        fine &= row.equal is not False
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--logits",
        type=Path,
        help="an .npz of your own beside the made-up case: logits (models, samples, classes), "
        "members (models, samples) and labels (samples,); the first model is the target",
    )
    options = parser.parse_args()
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        print(f"missing: {', '.join(missing)}; see benchmarks/oracles/README.md", file=sys.stderr)
        return 2
    import numpy as np
    from against_art import against_art
    from against_privacyguard import Case, against_privacyguard, made_up

    warnings.simplefilter("ignore")  # the oracles' and scikit-learn's, on convergence
    fine = show("PrivacyGuard, made-up logits", against_privacyguard(made_up()))
    if options.logits is not None:
        with np.load(options.logits, allow_pickle=False) as arrays:
            case = Case.of(arrays["logits"], arrays["members"], arrays["labels"])
        fine &= show(f"PrivacyGuard, {options.logits.name}", against_privacyguard(case))
    fine &= show("ART, balanced accuracy on one scikit-learn network", against_art())
    print("all equal that must be" if fine else "NOT all equal that must be")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())

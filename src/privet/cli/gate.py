"""`privet gate`: a run passes or fails, for a CI system to act on."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from privet.cli.console import Json, answer
from privet.errors import OptionError


def gate(
    run: Path,
    *,
    max_: Annotated[tuple[str, ...], Parameter(name="--max", negative="", show_default=False)] = (),
    min_: Annotated[tuple[str, ...], Parameter(name="--min", negative="", show_default=False)] = (),
    junit: Path | None = None,
    json: Json = False,
) -> int:
    """Pass or fail the audited run in the folder RUN: exit status 0 or 1, and the reasons.

    Each --max and --min is one condition, and all must hold. Put them in quotes: the shell would
    take < and > for files. What cannot be judged fails: a figure that is not in the audit, or a
    false positive rate (FPR) that takes more nonmembers than the audit had. Exit status 2 says
    that the gate could not look at all.

    What leaks, the highest over all attacks in the audit unless written ATTACK:figure:

    - tpr@0.01: the share of members found while at most 1 % of nonmembers are accused; the
      figure to hold down, since an average hides the few who are certain to be found
    - tpr_high@0.01: the upper end of its 95 % interval, to be sure in spite of few members
    - tpr_band_high@0.01: the same in spite of few nonmembers too
    - balanced_accuracy: of the attacks' own decisions; 0.5 is guessing
    - auc: 0.5 is guessing

    What the model is worth: accuracy (on test data), train_accuracy, gap (the difference of the
    two), sparsity.

    A job of a CI system:

        privet prune data.csv --defense swmr --out run
        privet audit run
        privet gate run --max "tpr@0.01<=0.05" --min "accuracy>=0.6" --junit privet.xml

    Parameters
    ----------
    run
        A folder made by `privet prune` and audited by `privet audit`, or an audit's JSON file.
    max_
        A condition with <= or <, e.g. --max "tpr@0.01<=0.05"; may be repeated.
    min_
        A condition with >= or >, e.g. --min "accuracy>=0.6"; may be repeated.
    junit
        Write the outcome as JUnit XML, which CI systems show; on passing and on failing.
    json
        Print the outcome as one JSON object.
    """
    from privet.files import write_bytes
    from privet.gate import judge, junit_xml, parse, read_audit

    conditions = [parse(text, "max") for text in max_] + [parse(text, "min") for text in min_]
    if not conditions:
        raise OptionError('nothing to judge: name a condition, e.g. --max "tpr@0.01<=0.05"')
    if junit is not None and _is_input(junit, run):
        raise OptionError(f"{junit} belongs to the run; name a file ending in .xml for --junit")
    outcomes = judge(conditions, read_audit(run))
    if junit is not None:
        write_bytes(junit, junit_xml(outcomes))
    passed = all(outcome.passed for outcome in outcomes)
    document = {
        "run": str(run),
        "passed": passed,
        "conditions": [outcome.as_json() for outcome in outcomes],
    }
    answer(document, *map(str, outcomes), as_json=json)
    return 0 if passed else 1


def _is_input(junit: Path, run: Path) -> bool:
    """Say whether ``junit`` is, or could become, a file that privet keeps in the run."""
    target, run = junit.resolve(), run.resolve()
    return target == run or (run in target.parents and target.suffix.lower() != ".xml")

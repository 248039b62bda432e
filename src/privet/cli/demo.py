"""`privet demo`: the guided tour."""

from pathlib import Path

from privet.cli.console import Json, answer, progress


def demo(
    *,
    out: Path = Path("demo"),
    seed: int = 0,
    json: Json = False,
) -> None:
    """Show both of privet's stories in about a minute, on data that needs no download.

    Prunes a network under three defenses and attacks each; builds protection for app ratings
    and attacks that. Ends with a table, an HTML page with plots, and what to try next.

    Parameters
    ----------
    out
        Folder for report.html, report.json, the runs and the bundles.
    seed
        Fixes everything that chance decides.
    json
        Print the whole report as one JSON object.
    """
    from privet.demo import run_demo
    from privet.report.terminal import comparison_table, protect_table

    with progress():
        document = run_demo(out, seed=seed)
    answer(
        document,
        comparison_table(document["pruning"]),
        protect_table(document["protection"]),
        f"The whole story, with plots: {out / 'report.html'}",
        "On your own data, one row a person and the class in a column named label:",
        f"  {document['next'][1]}",
        as_json=json,
    )

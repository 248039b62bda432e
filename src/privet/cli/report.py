"""`privet report`: the figures of a finished folder as one page."""

from pathlib import Path
from typing import Any

from privet.cli.console import answer
from privet.errors import DataError, OptionError


def report(run: Path, *, out: Path | None = None) -> None:
    """Write the figures of RUN as one HTML page with plots that needs no network.

    Parameters
    ----------
    run
        A folder made by `privet prune`, `privet tune`, `privet protect build` or `privet
        reproduce table1`.
    out
        The page; RUN/report.html by default.
    """
    from privet.files import read_json, write_bytes
    from privet.report import render_html

    if (run / "wemem.json").exists():
        raise DataError(
            f"{run} holds a table of many runs, which has no page: repeat privet reproduce wemem "
            f"with --table FILE.md, or name one of the runs in {run}"
        )
    if (run / "protect.json").exists():
        html = render_html(read_json(run / "protect.json"), "protect")
    elif (run / "table1.json").exists():
        html = render_html(read_json(run / "table1.json"), "table1")
    else:
        if not (run / "run.json").exists():
            raise DataError(f"{run} holds no run of privet: {run / 'run.json'} is missing")
        record = read_json(run / "run.json")
        if record.get("kind") not in ("prune", "analyse", "tune") or not record.get("result"):
            raise DataError(f"{run} holds no finished run; repeat the command that began it")
        if record["kind"] == "prune":
            html = render_html(_pruned(run, record["result"]), "run")
        else:
            html = render_html(record["result"], record["kind"])
    page = out or run / "report.html"
    if page.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"--out names the page, which ends in .html; got {page}")
    write_bytes(page, html.encode())
    answer({"report": str(page)}, f"wrote {page}", as_json=False)


def _pruned(run: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return a run's result with its audit and the search that it began with, if there are any."""
    from privet.files import read_json

    audit, search = run / "audit.json", run / "tune" / "run.json"
    return {
        "prune": result,
        "audit": read_json(audit) if audit.exists() else None,
        "tune": read_json(search).get("result") if search.exists() else None,
    }

"""`privet protect apply`, `check` and `serve`: the person's side, without torch or network."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from privet.cli.console import Json, answer, progress
from privet.errors import OptionError

if TYPE_CHECKING:
    from privet.device import Bundle

Flag = Parameter(negative="")
Choice = tuple[Path, Callable[[], None]]
"""A bundle, and what writes down that it was chosen."""


def _no_option(_: object, path: Path | None) -> None:
    """Refuse what was meant as an option, since a path that may be ``-`` takes such words, too."""
    name = str(path)
    if name.startswith("-") and name != "-":
        raise ValueError(f"It looks like an option; write ./{name} if it is a file")


OrStandard = Parameter(allow_leading_hyphen=True, validator=_no_option)


def apply(
    file: Annotated[Path, OrStandard],
    *,
    bundle: Path,
    budget: float,
    out: Annotated[Path | None, OrStandard] = None,
    dry_run: Annotated[bool, Flag] = False,
    key: Path | None = None,
    changes: Path | None = None,
    policy: Literal["modify_add", "modify_exist", "add_new"] | None = None,
    keep: str = "",
    extra: Literal["refuse", "keep", "drop"] = "refuse",
    format: Literal["pairs", "csv", "tsv", "parquet", "npz"] | None = None,
    max_memory: float | None = None,
    max_ms: float | None = None,
    trusted: Path | None = None,
    json: Json = False,
) -> None:
    """Protect the records in FILE with a bundle, on this machine, without torch or network.

    The same record always gets the same answer under the same key, bundle, budget and options, up
    to float32 rounding, so asking again reveals nothing new. Releases of one record at several
    budgets, or by several bundles, reveal more together: publish one. Columns are matched to the
    bundle's features by name where the file has a header. The output has the input's format. Memory
    does not grow with the number of records, but for arrays in Fortran order.

        privet protect apply ratings.csv --bundle cities.safetensors --budget 2 --out noisy.csv
        privet protect apply ratings.csv --bundle bundles --budget 2 --dry-run --changes see.txt
        make-ratings | privet protect apply - --format csv --bundle bundles --budget 2 --out -

    Parameters
    ----------
    file
        Records to protect: `app:score` text, CSV, TSV, Parquet or NPZ, told by the ending; or - for
        standard input.
    bundle
        A bundle made by `privet protect build`, or a folder of them: then the strongest is taken,
        which has most MACs and the finest precision, of those that fit --max-memory and --max-ms.
    budget
        Expected change allowed: entries of a record (attribute) or L1 distance (membership).
    out
        The protected file, replaced only when all records are done; or - for standard output,
        which then holds the records and nothing else.
    dry_run
        Do all but write: see with --changes, or in the summary, what would become of the records.
        Where there is no key yet, a passing one is used, and a later run releases something else.
    key
        The secret key, made on first use; by default the file that PRIVET_KEY names, or one in
        this user's data folder.
    changes
        Write what changed, record by record: as text that reads well if its name ends in .txt,
        else as JSON. For your eyes only.
    policy
        Attribute protection: change only entries that are there (modify_exist), only add new ones
        (add_new), or both (modify_add). What the bundle says unless given.
    keep
        Attribute protection: entries that you never want touched, by name or number, separated by
        commas.
    extra
        Columns of a CSV, TSV or Parquet file that the bundle does not know, or other arrays of an
        NPZ file: refuse the file, keep them as they are (they are not protected, and may give away
        what the rest hides), or drop them.
    format
        The format of FILE, where its name does not say.
    max_memory
        The most memory to take for one record, in MB, Python itself included; a long file takes
        more, whatever its length.
    max_ms
        The most time to take for a record, in milliseconds. It is measured once: what is chosen is
        written down beside the key, in KEY.bundles, since releases of one record by two bundles
        reveal more together.
    trusted
        The public key of whoever you trust to make bundles: a bundle that it did not sign is
        refused. See `privet protect sign`.
    json
        Print the summary as one JSON object.
    """
    from privet.device import Rules, load_bundle, load_or_create_key, protect_file
    from privet.device.mechanism import default_key
    from privet.device.records import rehearsal_key
    from privet.device.rules import features_named

    if (out is None) != dry_run:
        raise OptionError("say where the protected records go, --out FILE, or else --dry-run")
    if json and str(out) == "-":
        raise OptionError("standard output cannot hold both records and --json; name a file")
    key_path = key or default_key()
    note = key_path.with_name(f"{key_path.name}.bundles")
    choose = partial(_pick, note, max_memory=max_memory, max_ms=max_ms)
    if not bundle.is_dir() and (max_memory, max_ms) != (None, None):
        raise OptionError(
            f"--max-memory and --max-ms choose from a folder of bundles; {bundle} is none"
        )
    chosen, settle = _chosen(bundle, trusted, choose) if bundle.is_dir() else (bundle, _settled)
    with _trustworthy(chosen, trusted) as path:
        opened = load_bundle(path)
    untouched = [name.strip() for name in keep.split(",") if name.strip()]
    mask = features_named(untouched, opened.features, opened.feature_names) if untouched else None
    rules = None if policy is None and mask is None else Rules(policy=policy, keep=mask)
    rehearsed = dry_run and not key_path.exists()

    def key_of_run() -> bytes:
        # Asked for once records have proved sound: bad input leaves neither key nor note.
        if dry_run:
            return rehearsal_key(key_path)
        settle()
        return load_or_create_key(key_path)

    with progress():
        summary = protect_file(
            file,
            opened,
            budget=budget,
            key=key_of_run,
            out=out,
            changes=changes,
            rules=rules,
            untouchable=(key_path, note, *_evidence(bundle, trusted)),
            extra=extra,
            format=format,
        )
    _warn(opened, chosen, rehearsed=rehearsed)
    if str(out) == "-":
        return
    summary = {**summary, "bundle": str(chosen)}
    answer(summary, *_in_words(summary, opened.kind), *_written(out, changes), as_json=json)


def _warn(bundle: "Bundle", path: Path, *, rehearsed: bool) -> None:
    """Say on stderr what is not as it looks."""
    from privet.report import printable
    from privet.report.definitions import passed

    notes = []
    if passed(bundle.card.get("definitions")) is False:
        notes.append(f"{path} missed Definitions 1-3; see privet protect check {quote(str(path))}")
    if rehearsed:
        notes.append("there is no key yet: the run that makes one will choose other changes")
    for note in notes:
        print(f"privet: {printable(note)}", file=sys.stderr)


def _written(out: Path | None, changes: Path | None) -> list[str]:
    seen = [f"wrote {changes}, for your eyes only"] if changes else []
    nothing = "wrote nothing else: a dry run" if changes else "wrote nothing: a dry run"
    return [*seen, f"wrote {out}" if out else nothing]


def _in_words(summary: Mapping[str, Any], kind: str) -> list[str]:
    """Tell people what `protect_file` returns."""
    cost, short = "changed entries", "the search fell short of the class aimed at"
    if kind == "membership":
        cost, short = "L1 distance", "no noise was found that changes the defense model's mind"
    return [
        f"records: {summary['records']:,}, of which changed: {summary['changed']:,}",
        f"{cost} a record: {summary['mean_cost']:.4g} on average, "
        f"{summary['mean_expected_cost']:.4g} expected, within a budget of {summary['budget']:g}",
        f"records where {short}: {summary['unreached']:,}",
        f"seconds: {summary['seconds']:.4g}",
        f"bundle: {summary['bundle']}",
    ]


def check(bundle: Path, *, trusted: Path | None = None, json: Json = False) -> int:
    """Verify a bundle, run its self-test, and print its card.

    The self-test is a few records in the bundle, with the answers that any device must give.
    Exit status 1 if the bundle missed Definitions 1-3.

    Parameters
    ----------
    bundle
        A bundle made by `privet protect build`.
    trusted
        The public key of whoever you trust to make bundles, who must have signed it.
    json
        Print the card as one JSON object.
    """
    from privet.device import load_bundle, run_self_test
    from privet.device.bundle import outline
    from privet.report.definitions import passed
    from privet.report.terminal import card_table

    with _trustworthy(bundle, trusted) as path:
        opened, stored = load_bundle(path), outline(path)
    run_self_test(opened)
    card, cases = opened.card, len(opened.self_test)
    sizes = ", ".join(f"{size:,}" for size in stored.layers)
    weights = f"layers of {sizes} units, weights stored as {stored.precision}"
    lines = [
        f"the bundle is whole and well-formed, and answers its {cases} test records right",
        f"for {stored.kind} protection: {weights}",
    ]
    if trusted is not None:
        lines.append(f"signed by the key in {trusted}")
    shown = card_table(card) if card else "its maker left the card empty"
    answer(card, *lines, shown, as_json=json)
    return 1 if passed(card.get("definitions")) is False else 0


def serve(
    bundle: Path,
    *,
    port: int | None = None,
    out: Path | None = None,
    trusted: Path | None = None,
) -> None:
    """Protect files on a page in your browser, with a bundle for attribute protection.

    The page shows what could be guessed from a file, which entries would change and how the guess
    moves, and saves the protected file. Everything happens in the page, which sends nothing and
    works offline. It is served to this machine alone, until Ctrl-C.

    Parameters
    ----------
    bundle
        A bundle made by `privet protect build`.
    port
        Where to serve on this machine, 8473 unless given; 0 takes any that is free.
    out
        Do not serve, but write the page as files to this folder, for any web server that speaks
        https.
    trusted
        The public key of whoever you trust to make bundles, who must have signed it.
    """
    from privet.page import DEFAULT_PORT, write_page
    from privet.page import serve as serve_page

    if out is not None and port is not None:
        raise OptionError("--port is for serving and --out for not serving; give one of them")
    with _trustworthy(bundle, trusted) as path:
        if out is not None:
            written = write_page(path, out)
            print(f"wrote {len(written)} files to {out}, for any web server that speaks https")
            return
        serve_page(path, port=DEFAULT_PORT if port is None else port, ready=_served)


def _served(address: str) -> None:
    print(f"open {address} in your browser; Ctrl-C ends", flush=True)


@contextmanager
def _trustworthy(bundle: Path, trusted: Path | None) -> Iterator[Path]:
    """Give a path whose content the trusted key signed, where there is one."""
    if trusted is None:
        yield bundle
        return
    from privet.signatures import verified

    with verified(bundle, trusted) as path:
        yield path


def _evidence(bundle: Path, trusted: Path | None) -> tuple[Path, ...]:
    """Return the bundles to choose from, and the files that they are verified with."""
    from privet.signatures import signature_of

    found = _bundles(bundle) if bundle.is_dir() else [bundle]
    signatures = map(signature_of, found)
    return (*found, *signatures) if trusted is None else (*found, *signatures, trusted)


def _pick(
    note: Path, paths: Sequence[Path], *, max_memory: float | None, max_ms: float | None
) -> Choice:
    from privet.device.pick import pick, pick_once

    if max_ms is None:
        return pick(paths, max_memory=max_memory), _settled
    return pick_once(paths, note, max_memory=max_memory, max_ms=max_ms)


def _settled() -> None:
    """Write nothing down: the choice cannot fall otherwise."""


def _chosen(
    folder: Path, trusted: Path | None, choose: Callable[[Sequence[Path]], Choice]
) -> Choice:
    """Return the strongest bundle of a folder that fits, of those that the trusted key signed."""
    found = _bundles(folder)
    if not found:
        raise OptionError(f"there is no .safetensors bundle in {folder}")
    with ExitStack() as stack:
        places = {stack.enter_context(_trustworthy(path, trusted)): path for path in found}
        try:
            place, settle = choose(list(places))
            return places[place], settle
        except OptionError as error:
            raise OptionError(_by_name(str(error), places)) from None


def _bundles(folder: Path) -> list[Path]:
    """Return the bundles in a folder, without what a killed build left hidden there."""
    return sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))


def _by_name(message: str, places: Mapping[Path, Path]) -> str:
    """Name the bundles that were asked for in place of the verified copies of them."""
    for place, path in places.items():
        message = message.replace(str(place), str(path))
    return message

"""The command line: one file a command group; each command imports what it needs when it runs.

Progress and messages go to stderr; a command's answer, and nothing else, goes to stdout. Exit
status: 0 done, 1 a check failed, 2 bad usage or bad input, 130 interrupted.
"""

import os
import signal
import sys
from collections.abc import Sequence
from threading import Timer, main_thread

from cyclopts import App, CycloptsError

import privet
from privet.cli import (
    data,
    demo,
    export,
    gate,
    protect_apply,
    protect_build,
    protect_sign,
    prune,
    report,
    reproduce,
    tune,
)
from privet.errors import PrivetError

HELP = """Prune deep networks. Keep people private.

Start with `privet demo`. Data sets are kept in the folder PRIVET_DATA (default: the user's
cache folder). Every command takes --help.
"""


def build() -> App:
    """Return the command line; no command's heavy imports happen before it runs."""
    app = App(
        name="privet",
        help=HELP,
        version=privet.__version__,
        help_format="markdown",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    app.command(demo.demo)
    app.command(prune.prune)
    app.command(tune.tune)
    app.command(prune.audit)
    app.command(gate.gate)
    app.command(report.report)
    app.command(export.export)
    data_app = App(name="data", help="List and fetch data sets.")
    data_app.command(data.list_, name="list")
    data_app.command(data.fetch)
    protect_app = App(name="protect", help="Build, apply, attack and check protection bundles.")
    protect_app.command(protect_build.build)
    protect_app.command(protect_apply.apply)
    protect_app.command(protect_apply.check)
    protect_app.command(protect_apply.serve)
    protect_app.command(protect_build.attack)
    protect_app.command(protect_sign.keygen)
    protect_app.command(protect_sign.sign)
    reproduce_app = App(name="reproduce", help="Run the papers' tables again.")
    reproduce_app.command(reproduce.wemem)
    reproduce_app.command(reproduce.table1)
    app.command(data_app)
    app.command(protect_app)
    app.command(reproduce_app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    # Whoever ends the process politely gets what Ctrl-C gets: temporary files are cleared away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = _unraisable
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    """Interrupt the command if a callback of compiled code has swallowed an interrupt."""
    if what.exc_type is KeyboardInterrupt:
        # A little later: what is raised in here is swallowed, too.
        Timer(0.05, signal.pthread_kill, (main_thread().ident, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(what)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit status; expected errors become one line on stderr."""
    # Networks this small train fastest on one thread, and shadow models run one a process.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        status = build()(list(arguments), exit_on_error=False, print_error=False)
        sys.stdout.flush()  # here, where a reader that has gone is expected, not at exit
    except (PrivetError, CycloptsError) as error:
        return _fail(str(error), 2)
    except ModuleNotFoundError as error:
        package = (error.name or "privet").partition(".")[0]
        if package == "privet":
            raise
        return _fail(
            f"this command needs the package {package!r}: pip install 'privet[train,report]'", 2
        )
    except KeyboardInterrupt:
        return _fail(
            "interrupted; no file is half-written, and what is finished in an --out folder is "
            "taken up when the command is repeated",
            130,
        )
    except BrokenPipeError:
        # The reader of our stdout (head, less) has gone: stop quietly, flush nothing more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit:
        return 0  # Rich's way of doing just that
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}", 2)
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int) -> int:
    print(f"privet: {' '.join(message.split())}", file=sys.stderr)
    return status

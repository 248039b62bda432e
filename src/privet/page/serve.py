"""The page served to this machine's own browser, and to nobody else."""

import errno
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from privet.errors import OptionError
from privet.page.assemble import INDEX, POLICY, TYPES, assemble

ADDRESS, ALIAS = "127.0.0.1", "localhost"
DEFAULT_PORT = 8473
"""Always the same one: what a browser remembers of a page, it remembers by address and port."""
PATIENCE = 30.0  # seconds for a request to arrive

# No popups, for one. A policy that stands in a page itself cannot say so.
_SANDBOX = "sandbox allow-scripts allow-same-origin allow-downloads allow-modals"
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'; {_SANDBOX}",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_log = logging.getLogger(__name__)


def serve(bundle: Path | str, *, port: int = DEFAULT_PORT, ready: Callable[[str], object]) -> None:
    """Serve the page with ``bundle`` until Ctrl-C, then return.

    Parameters
    ----------
    bundle
        An attribute bundle; see `privet.page.assemble`.
    port
        Where to listen on 127.0.0.1; 0 for any that is free.
    ready
        Called once with the page's address, when it can be opened.

    Raises
    ------
    BundleError, OptionError
        As `privet.page.assemble` does; also on a port that is taken or none of this user's.
    """
    with _listening(assemble(bundle), port=port) as server:
        try:
            ready(_address(server))
            server.serve_forever()
        except KeyboardInterrupt:
            _log.debug("stopped serving %s", bundle)


@contextmanager
def serving(bundle: Path | str, *, port: int = 0) -> Iterator[str]:
    """Serve the page while the block runs, and give its address; see `serve`."""
    with _listening(assemble(bundle), port=port) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield _address(server)
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        # A browser that hangs up is no news.
        _log.debug("request from %s failed", client_address, exc_info=True)


def _address(server: ThreadingHTTPServer) -> str:
    return f"http://{ADDRESS}:{server.server_port}/"


@contextmanager
def _listening(page: Mapping[str, bytes], *, port: int) -> Iterator[ThreadingHTTPServer]:
    """Open the port for a server of some files, and close it in the end."""
    if not 0 <= port <= 65535:
        raise OptionError(f"port must be in 0..65535; got {port}")
    try:
        server = _Server((ADDRESS, port), _handler(page))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "taken already" if error.errno == errno.EADDRINUSE else "not yours to open"
        raise OptionError(
            f"port {port} is {why}; choose another one, or 0 for any that is free"
        ) from None
    with server:
        yield server


def _handler(page: Mapping[str, bytes]) -> type[BaseHTTPRequestHandler]:
    """Return what answers requests for the files of ``page``, known by name, and for no others."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "privet"
        sys_version = ""
        timeout = PATIENCE

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            name = self.path.partition("?")[0].removeprefix("/") or INDEX
            port = self.connection.getsockname()[1]
            if not _is_ours(self.headers.get("Host", ""), port):
                # Another site's name that leads here would make the page part of that site.
                self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            elif name not in page:
                self.send_error(HTTPStatus.NOT_FOUND)
            elif self.headers["Host"].startswith(ALIAS):
                # Another name would have another memory: no key would be found there.
                self.send_response(HTTPStatus.TEMPORARY_REDIRECT)
                self.send_header("Location", f"http://{ADDRESS}:{port}/{name}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", TYPES[Path(name).suffix])
                self.send_header("Content-Length", str(len(page[name])))
                self.end_headers()
                if body:
                    self.wfile.write(page[name])

        def end_headers(self) -> None:
            for name, value in HEADERS.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, format: str, *args: object) -> None:
            _log.debug(format, *args)

    return Handler


def _is_ours(host: str, port: int) -> bool:
    """Tell whether a request was meant for this machine, by the name it was sent to."""
    names = (ADDRESS, ALIAS)
    return host in {f"{name}:{port}" for name in names} | (set(names) if port == 80 else set())

"""`run.py ui`: starts the web server, prints its address, and opens a browser where there is a display."""

from __future__ import annotations

import argparse
import errno
import os
import socket
import sqlite3
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from toolkit.extension import REPOSITORY
from ui.server.auth import MIN_LISTEN_TOKEN, read_token
from ui.server.options import PORT, Options, has_display, store_folder
from ui.server.store import Store

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
TOKEN_VARIABLE = "FLUX2_TRAINER_TOKEN"
PROGRAM_VARIABLE = "FLUX2_TRAINER_TEST_PROGRAM"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until asked to stop. Jobs keep running. Returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        options = options_of(given, os.environ, Path.cwd())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        server = _listening(given.listen or "127.0.0.1", given.port)
    except OSError as error:
        print(_refusal(given, error), file=sys.stderr)
        return 2
    os.chdir(REPOSITORY)  # where jobs are started: what a job text names is looked for from here
    try:
        token = options.token or read_token(options.store / "token")
        notice = Store(options.store / "index.sqlite").try_out()
    except (OSError, sqlite3.Error) as error:
        print(f"--store {options.store} cannot be used: {error}. Fix that, or choose another one.", file=sys.stderr)
        server.close()
        return 2
    if notice:
        print(notice, file=sys.stderr)
    host = "127.0.0.1" if given.listen in (None, "0.0.0.0", "::") else given.listen
    address = f"http://{host}:{server.getsockname()[1]}/#token={token}"
    print(f"Open {address}", flush=True)
    if given.listen:
        print(
            "It can be reached from other machines. Anyone with this address can start programs on this one.",
            flush=True,
        )
    if not given.no_browser and has_display(os.environ):
        threading.Timer(1.0, webbrowser.open, [address]).start()
    return _serve(options, server)


def options_of(given: argparse.Namespace, environment: os._Environ[str] | dict[str, str], here: Path) -> Options:
    """The options that arguments and environment ask for.

    Raises:
        ValueError: they ask for what is not safe, or not there.
    """
    store = store_folder(given.store, environment)
    roots = tuple(dict.fromkeys([*(root.expanduser().absolute() for root in given.root), REPOSITORY, here.absolute()]))
    absent = [str(root) for root in roots if not root.is_dir()]
    if absent:
        raise ValueError(f"--root {absent[0]}: there is no such folder.")
    token = environment.get(TOKEN_VARIABLE) or None
    if token is not None and len(token) < MIN_LISTEN_TOKEN:
        raise ValueError(f"{TOKEN_VARIABLE} has {len(token)} characters and needs {MIN_LISTEN_TOKEN} or more.")
    names = [*_LOOPBACK, *given.host_name, *([given.listen] if given.listen else [])]
    program = environment.get(PROGRAM_VARIABLE)
    return Options(
        store=store,
        roots=roots,
        token=token,
        hosts=tuple(dict.fromkeys(name.lower() for name in names)),
        is_reindexed=given.reindex,
        may_run_elsewhere=bool(given.listen),
        program=(sys.executable, program or str(REPOSITORY / "run.py")),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py ui", description="The web page: jobs, queue, samples, curves.")
    parser.add_argument("--port", type=_port, default=PORT, help=f"default: {PORT}")
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        nargs="?",
        const="0.0.0.0",
        help="accept connections from other machines on this address (default: all addresses)",
    )
    parser.add_argument(
        "--host-name",
        metavar="NAME",
        action="append",
        default=[],
        help="another host name of this server, such as that of a reverse proxy; repeatable",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="another folder that jobs may read and write, besides the trainer's and the current one; repeatable",
    )
    parser.add_argument(
        "--store", metavar="DIR", help="folder for the index, the token and the settings (default: .ui)"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument("--reindex", action="store_true", help="rebuild the index; the queue order is lost")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError
    return port


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # with the protocol named, asyncio sends small answers at once: else each waits 40 ms for the reader to acknowledge
    server = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows it would let two servers share a port
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen(128)
    except OSError:
        server.close()
        raise
    return server


def _refusal(given: argparse.Namespace, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {given.port} is in use: the server may already be running (it printed its address). "
            f"Otherwise choose another port: run.py ui --port {given.port + 1}"
        )
    return f"Cannot listen on port {given.port}: {error.strerror or error}"


def _serve(options: Options, server: socket.socket) -> int:
    import uvicorn

    from ui.server.app import create_app

    config = uvicorn.Config(
        create_app(options),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[server])
    return 0


if __name__ == "__main__":
    sys.exit(main())

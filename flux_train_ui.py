"""A simple page for one kind of job: pictures in, a FLUX.2 LoRA out. Needs `pip install -r requirements-gradio.txt`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from toolkit.extension import REPOSITORY
from ui.server.options import has_display, store_folder

PORT = 7860
AUTH_VARIABLE = "FLUX2_TRAINER_AUTH"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; jobs live on. Returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    auth = _auth(options.auth or os.environ.get(AUTH_VARIABLE))
    if (options.share or options.listen) and auth is None:
        parser.error(
            "--share and --listen let others start programs on this machine: add --auth USER:PASSWORD (or "
            f"{AUTH_VARIABLE})"
        )
    if importlib.util.find_spec("gradio") is None:
        print("This page needs Gradio: pip install -r requirements-gradio.txt", file=sys.stderr)
        return 2
    here = Path.cwd()
    options.store = store_folder(options.store, os.environ)
    os.chdir(REPOSITORY)  # where jobs are started: what a job text names is looked for from here
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    return _serve(options, auth, here)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flux_train_ui.py", description="Train a FLUX.2 LoRA from a web page.")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    parser.add_argument("--listen", action="store_true", help="accept connections from other machines; needs --auth")
    parser.add_argument("--share", action="store_true", help="a public address through Gradio's servers; needs --auth")
    parser.add_argument(
        "--auth", metavar="USER:PASSWORD", help=f"who may use the page; other users see it here, not in {AUTH_VARIABLE}"
    )
    parser.add_argument("--store", metavar="DIR", type=Path, help="folder of the queue (default: that of the web UI)")
    parser.add_argument("--datasets", metavar="DIR", type=Path, help="folder for dropped pictures (default: datasets)")
    parser.add_argument("--output", metavar="DIR", type=Path, help="folder of all output folders (default: output)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    return parser


def _auth(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not colon or not user or len(password) < 12:
        print("--auth needs a name, a colon, and a password of at least 12 characters", file=sys.stderr)
        raise SystemExit(2)
    return user, password


def _serve(options: argparse.Namespace, auth: tuple[str, str] | None, here: Path) -> int:
    from starlette.middleware import Middleware

    from ui.server.options import Options
    from ui.server.services import Life, make_services
    from ui.simple.desk import Desk
    from ui.simple.guard import LocalOnly
    from ui.simple.page import build, theme

    datasets = (here / options.datasets).resolve() if options.datasets else REPOSITORY / "datasets"
    output = (here / options.output).resolve() if options.output else REPOSITORY / "output"
    given = [folder for folder in (options.datasets and datasets, options.output and output) if folder]
    for folder in (datasets, output):
        folder.mkdir(parents=True, exist_ok=True)
    roots = tuple(dict.fromkeys([REPOSITORY, here, *given]))
    life = Life(make_services(Options(store=options.store, roots=roots)))
    life.begin()
    try:
        page = build(Desk(life.services, datasets, output))
        print(f"The page is at http://127.0.0.1:{options.port}/", flush=True)
        page.launch(
            quiet=not options.share,
            server_name="0.0.0.0" if options.listen else "127.0.0.1",
            server_port=options.port,
            share=options.share,
            auth=auth,
            inbrowser=not options.no_browser and has_display(os.environ),
            footer_links=[],
            allowed_paths=[str(life.services.thumbs.folder)],
            max_file_size="200mb",
            theme=theme(),
            show_error=True,
            app_kwargs={} if options.share or options.listen else {"middleware": [Middleware(LocalOnly)]},
        )
    except OSError as error:
        print(f"Cannot serve the page at port {options.port}: {error}. Choose another --port.", file=sys.stderr)
        return 2
    finally:
        life.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())

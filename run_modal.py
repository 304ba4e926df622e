"""Trains a job on GPUs rented from Modal: `python run_modal.py job.yaml --gpu H100`. docs/cloud.md has the steps.

The job is checked here first. Its images go to a volume. Output, the hub's cache and ours are kept on volumes, so that
a run that loses its machine, or reaches the time limit, continues from its last checkpoint on the next one.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

try:
    import modal
except ModuleNotFoundError:
    sys.exit(f"run_modal.py needs the package modal:  {sys.executable} -m pip install -r requirements-modal.txt")

from jobs.cloud.fetched import fetch
from jobs.cloud.gpus import rented
from jobs.cloud.parcel import Parcel, RemoteFolders, pack
from jobs.cloud.remote_check import check_for
from jobs.cloud.remote_run import Nodes, NotFinished, forget_lost_machines, run_until
from toolkit.config import load_job
from toolkit.errors import UserError
from toolkit.extension import REPOSITORY
from toolkit.runtime.stop import EXIT_CODE
from toolkit.units import as_size

PLACE = RemoteFolders(data="/data", output="/output", caches="/caches")
VOLUMES: dict[str | PurePosixPath, Any] = {
    PLACE.data: modal.Volume.from_name("flux2-trainer-data", create_if_missing=True),
    PLACE.output: modal.Volume.from_name("flux2-trainer-output", create_if_missing=True),
    PLACE.caches: modal.Volume.from_name("flux2-trainer-caches", create_if_missing=True),
}
CODE = ("config", "extensions", "extensions_built_in", "jobs", "toolkit", "requirements.txt", "run.py")
LIMIT_S = 24 * 3600  # the longest that Modal lets a function run
TO_SAVE_S = 600
MOST_STARTS = 10


def _is_left_out(path: Path) -> bool:
    return path.parts[0] not in CODE or "__pycache__" in path.parts


image = (
    modal.Image.debian_slim(python_version="3.12")
    .apt_install("build-essential")  # compiles kernels
    .uv_pip_install(requirements=[str(REPOSITORY / "requirements.txt")])
    .env({"HF_HOME": f"{PLACE.caches}/huggingface", "XDG_CACHE_HOME": PLACE.caches, "PYTHONPATH": "/app"})
    .add_local_dir(REPOSITORY, "/app", ignore=_is_left_out)  # last: a changed line of ours builds nothing again
)
app = modal.App("flux2-trainer", image=image)


def train(job: str, names: Sequence[str], num_gpus: int, num_machines: int) -> int:
    """Train a job on the machine that this runs on. Returns the exit code of run.py.

    Args:
        job: the job as YAML.
        names: names of its output folders.
        num_gpus: cards of each machine.
        num_machines: machines that train it together.

    Raises:
        NotFinished, KeyboardInterrupt: the run has saved and stopped early; Modal then starts it again.
    """
    job_file = Path(tempfile.gettempdir()) / f"{names[0]}.yaml"
    job_file.write_text(job, encoding="utf-8")
    nodes = Nodes(num_gpus)
    if num_machines > 1:
        cluster = modal.Cluster.from_context()
        nodes = Nodes(num_gpus, num_machines, cluster.container_rank(), cluster.container_ips()[0])
    if nodes.rank == 0:
        forget_lost_machines(Path(PLACE.output, name) for name in names)
    return run_until(nodes.command(job_file), limit_s=LIMIT_S - TO_SAVE_S, keep=_keep)


def _keep() -> None:
    if not modal.is_local():
        for path in (PLACE.output, PLACE.caches):
            VOLUMES[path].commit()


@dataclass(frozen=True)
class Rent:
    """What is rented: cards per machine, machines, MiB of RAM, and the names of Modal secrets with their variables."""

    gpu: str
    num_gpus: int = 1
    num_machines: int = 1
    ram_mib: int | None = None
    secrets: Sequence[str] = ()
    variables: Sequence[str] = ()

    def function(self) -> modal.Function[..., int, int]:
        """`train`, on these machines."""
        wanted = list(self.variables) if len(self.secrets) == 1 else []
        body = modal.clustered(size=self.num_machines, rdma=True)(train) if self.num_machines > 1 else train
        return app.function(
            gpu=f"{self.gpu}:{self.num_gpus}",
            memory=self.ram_mib,
            volumes=VOLUMES,
            secrets=[modal.Secret.from_name(name, required_keys=wanted) for name in self.secrets],
            timeout=LIMIT_S,
            retries=modal.Retries(max_retries=MOST_STARTS, initial_delay=0.0),
            single_use_containers=True,
        )(body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, send, train and fetch. Returns the exit code of run.py on the rented machine."""
    options = _parser().parse_args(arguments)
    try:
        return _main(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except modal.exception.AuthError as error:
        print(f"Modal does not know this machine ({error}). Create an account, then:  modal setup", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run_modal.py", description="Train a job on GPUs rented from Modal.")
    parser.add_argument("job", metavar="JOB", help="job file, as for run.py")
    parser.add_argument("-n", "--name", help="job name: replaces [name] in the job file")
    parser.add_argument("--gpu", default="H100", help="card, and how many: L40S, H100 (the default), H100:2, ...")
    parser.add_argument(
        "--nodes", type=int, default=1, metavar="N", help="number of machines, each with all of its cards (:8)"
    )
    parser.add_argument("--secret", action="append", default=[], help="name of a Modal secret; repeatable")
    parser.add_argument("--check", action="store_true", help="only check the job for this card; needs no account")
    parser.add_argument("--detach", action="store_true", help="do not wait: the run continues by itself")
    parser.add_argument("--fetch", action="store_true", help="only fetch what the run has written so far")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as in run.py"
    )
    return parser


def _main(options: argparse.Namespace) -> int:
    job = load_job(options.job, options.name, options.overrides)
    parcel = pack(job, PLACE)
    if options.fetch:
        _fetch(parcel)
        return 0
    card, gpu, num_gpus = rented(options.gpu)
    if options.nodes > 1 and num_gpus < 8:
        raise UserError(
            f"--nodes {options.nodes}: with several machines, each must use all of its cards: --gpu {card}:8"
        )
    checked = check_for(job, gpu.memory_gb, output=PLACE.output, cards=num_gpus, machines=options.nodes)
    print("\n".join(job.redact(line) for line in (*job.notices, *checked.lines)))
    if checked.refusal:
        raise UserError(job.redact(checked.refusal))
    for item in parcel.cargo:
        print(f"upload: {item.source} ({len(item.files)} files, {as_size(item.num_bytes)})")
    secrets, variables = _secrets(options, parcel, needs_token=checked.is_gated)
    if options.check:
        return 0
    rent = Rent(card, num_gpus, options.nodes, checked.ram_mib, secrets, variables)
    return _run(rent, parcel, options)


def _secrets(options: argparse.Namespace, parcel: Parcel, *, needs_token: bool) -> tuple[list[str], list[str]]:
    """Names of the Modal secrets to use, and of the variables that they must hold."""
    variables = list(dict.fromkeys([*(["HF_TOKEN"] if needs_token else []), *parcel.variables]))
    if options.secret or not variables:
        return options.secret, variables
    if variables == ["HF_TOKEN"]:
        return ["huggingface"], variables
    raise UserError(
        f"the run needs {', '.join(variables)}. Store them as a Modal secret, and name it with --secret NAME:\n"
        "  modal secret create NAME --from-dotenv .env"
    )


def _run(rent: Rent, parcel: Parcel, options: argparse.Namespace) -> int:
    function = rent.function()
    with modal.enable_output(), app.run(detach=options.detach):
        with VOLUMES[PLACE.data].batch_upload(force=True) as batch:
            for item in parcel.cargo:
                for name, path in item.files.items():
                    batch.put_file(path, f"/{item.target}/{name}".rstrip("/"))
        given = (parcel.text, list(parcel.folders), rent.num_gpus, rent.num_machines)
        if options.detach:
            function.spawn(*given)
            print(
                f"The run continues by itself. To see what it has written:  python run_modal.py {options.job} --fetch"
            )
            return 0
        try:
            code = function.remote(*given)
        except KeyboardInterrupt:
            print("The run has been told to save and stop. The same command continues it.", file=sys.stderr)
            return EXIT_CODE
        except NotFinished as error:
            print(f"{MOST_STARTS} starts were not enough: {error}. The same command continues it.", file=sys.stderr)
            code = EXIT_CODE
    _fetch(parcel)
    return code


def _fetch(parcel: Parcel) -> None:
    volume = VOLUMES[PLACE.output]
    for line in fetch(parcel.folders, files=_files, read=volume.read_file_into_fileobj):
        print(line)


def _files(name: str) -> Iterator[str]:
    with contextlib.suppress(modal.exception.NotFoundError):
        for entry in VOLUMES[PLACE.output].iterdir(f"/{name}", recursive=True):
            if entry.type == modal.types.FileEntryType.FILE:
                yield entry.path


if __name__ == "__main__":
    sys.exit(main())

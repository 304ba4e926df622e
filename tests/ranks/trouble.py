"""What befalls one rank of a run, at a given place: it is killed, hangs, or fails. Or it tells what it holds."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Place = Literal["encode", "load", "step", "save", "shard", "whole"]
What = Literal["kill", "hang", "stop", "memory", "error", "nan", "wrong bit", "full disk", "tell"]
_TOLD = "holds: "


@dataclass(frozen=True)
class Trouble:
    """Something that happens to a rank.

    Attributes:
        rank: to which one; -1: to all of them.
        place: where: when it encodes a picture, loads the transformer, makes a step, or writes a checkpoint,
            a part of it, or the whole weights for users.
        what: `stop` is SIGINT; `tell` prints, after every step, what `told` reads; the others say it.
        nth: at which time that it comes there, from 1.
    """

    rank: int
    place: Place
    what: What
    nth: int = 1

    def await_on(self, rank: int) -> None:
        """Let this process, which is one of the ranks, run into it."""
        if self.rank not in (rank, -1):
            return
        owner, name = _place(self.place)
        method = getattr(owner, name)
        count = 0

        def struck(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if self.what == "tell":
                answer = method(*arguments, **options)
                _tell(arguments[0].learner)
                return answer
            if count == self.nth:
                answer = _STRIKES[self.what]()
                if self.what == "nan":
                    arguments[2][0].latents.fill_(answer)
                if self.what == "wrong bit":
                    _, weight = arguments[0].learner.weights.named_parameters()[0]
                    weight.data.view(-1)[0] += answer
            return method(*arguments, **options)

        setattr(owner, name, struck)


@dataclass(frozen=True)
class Held:
    """What a rank holds after a step.

    Attributes:
        checksum: of the bits of all trained weights, gathered where they are spread.
        num_bytes: of its part of the transformer, with what is trained in it.
        whole_bytes: of all of it.
    """

    checksum: str
    num_bytes: int
    whole_bytes: int


def told(printed: str) -> list[Held]:
    """What a rank has told after each step, from what it has printed."""
    return [Held(**json.loads(line.removeprefix(_TOLD))) for line in printed.splitlines() if line.startswith(_TOLD)]


def _tell(learner: Any) -> None:
    from toolkit.parallel.agreement import checksum

    layout = learner.model.layout
    trained = checksum([layout.whole(weight) for _, weight in learner.weights.named_parameters()])
    held = list(learner.model.transformer.parameters())
    local = sum(layout.local(weight).nbytes if layout.is_spread(weight) else weight.nbytes for weight in held)
    answer = Held(trained, local, sum(weight.nbytes for weight in held))
    os.write(1, f"{_TOLD}{json.dumps(asdict(answer))}\n".encode())  # past what redirects the prints of a rank


def _place(place: Place) -> tuple[Any, str]:
    from jobs.process.BaseSDTrainProcess import BaseSDTrainProcess
    from toolkit.encode.pictures import ImageEncoder
    from toolkit.train.step import Stepper
    from toolkit.train.tasks import checkpoint, saver
    from toolkit.weights import whole_files

    places: dict[Place, tuple[Any, str]] = {
        "encode": (ImageEncoder, "add"),
        "load": (BaseSDTrainProcess, "_load"),
        "step": (Stepper, "train_step"),
        "save": (saver, "write_bundle"),
        "shard": (checkpoint, "write_tensors"),
        "whole": (whole_files, "write_tensors"),
    }
    return places[place]


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    time.sleep(10_000)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _run_out_of_memory() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _fail() -> None:
    raise ValueError("something is broken")


def _fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


_STRIKES: dict[What, Callable[[], Any]] = {
    "kill": _kill,
    "hang": _hang,
    "stop": _stop,
    "memory": _run_out_of_memory,
    "error": _fail,
    "nan": lambda: float("nan"),
    "wrong bit": lambda: 1e-6,
    "full disk": _fill_the_disk,
}

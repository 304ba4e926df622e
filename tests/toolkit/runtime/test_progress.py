from __future__ import annotations

import io
import re

from toolkit.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes only when a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_without_a_terminal_a_line_is_printed_now_and_then_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, clock=clock)
    progress.start(100)
    for step in range(1, 101):
        clock.now += 1
        progress.update(step, loss=0.5, lr=1e-4)
    progress.close()
    steps = [int(number) for number in re.findall(r"step (\d+)/100", stream.getvalue())]
    assert steps == [1, 31, 61, 91, 100]


def test_the_line_has_what_a_person_wants() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, clock=clock)
    progress.start(11)
    clock.now += 2
    progress.update(1, loss=0.25, lr=1e-4, note="stage 4")
    line = stream.getvalue()
    for part in ("step 1/11", "loss 0.2500", "lr 1.00e-04", "2.00 s/it", "ETA 20s", "RAM ", "stage 4"):
        assert part in line


def test_a_resumed_run_counts_from_where_it_was() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, clock=clock)
    progress.start(100, initial=90)
    clock.now += 3
    progress.update(91, loss=0.1, lr=1e-4)
    assert "step 91/100" in stream.getvalue()
    assert "3.00 s/it  ETA 27s" in stream.getvalue()


def test_time_spent_drawing_samples_is_no_training_time() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, clock=clock)
    progress.start(10)
    with progress.paused():
        clock.now += 50
    clock.now += 1
    progress.update(1, loss=0.1, lr=1e-4)
    assert "1.00 s/it" in stream.getvalue()


def test_the_loss_is_smoothed() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, clock=clock)
    progress.start(2)
    progress.update(1, loss=0.0, lr=1e-4)
    progress.update(2, loss=1.0, lr=1e-4)
    assert "step 2/2  loss 0.51" in stream.getvalue()


def test_on_a_terminal_the_line_is_redrawn_and_messages_stand_on_their_own() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(stream, clock=clock)
    progress.start(2)
    clock.now += 1
    progress.update(1, loss=0.5, lr=1e-4)
    progress.message("checkpoint written")
    clock.now += 1
    progress.update(2, loss=0.5, lr=1e-4)
    progress.close()
    progress.message("done")
    text = stream.getvalue()
    assert "\r" in text
    assert "step 1/2" in text
    assert "checkpoint written\n" in text
    assert text.endswith("done\n")

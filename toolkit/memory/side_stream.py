"""Copies between host and device that overlap with computation, correctly ordered with it."""

from __future__ import annotations

import torch
from torch import Tensor


class SideStream:
    """A queue of copies next to the compute stream.

    On CUDA the copies run on their own stream, ordered by two rules; neither makes the host wait:

    - A copy starts once all computations queued before the call of `copy` are done: what it overwrites has been read,
      and what it reads has been written.
    - Computations queued after a call of `wait` start once the copy is done.

    On other devices there is only one queue, and a copy is done when `copy` returns.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copy(self, target: Tensor, source: Tensor) -> torch.cuda.Event | None:
        """Queue `target.copy_(source)`. Returns the event to pass to `wait`."""
        if self._stream is None:
            target.copy_(source)
            return None
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
        self.keep(target)
        self.keep(source)
        return self._stream.record_event()

    def wait(self, copied: torch.cuda.Event | None) -> None:
        """Make computations queued from now on wait for a copy."""
        if copied is not None:
            torch.cuda.current_stream(self.device).wait_event(copied)

    def keep(self, tensor: Tensor) -> None:
        """Keep the memory of a device tensor from being reused until the copies queued so far are done."""
        if self._stream is not None and tensor.device.type == "cuda":
            tensor.record_stream(self._stream)

    def finish(self) -> None:
        """Make the host wait for the copies queued so far; needed before their memory is freed."""
        if self._stream is not None:
            self._stream.synchronize()

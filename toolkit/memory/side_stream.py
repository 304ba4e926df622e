"""Copies between host and device that run beside the computation, and the order between the two."""

from __future__ import annotations

import torch
from torch import Tensor


class SideStream:
    """A queue of copies beside the stream that computes.

    On CUDA the copies run on a stream of their own, and two rules order them; nothing here makes the host wait:

    - `copy` starts when all that was queued for computing before the call is done: what it overwrites has been read,
      and what it reads has been written.
    - `wait` lets what is queued for computing after the call start when the copy is done.

    On other devices there is one queue, and a copy is done when `copy` returns.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copy(self, target: Tensor, source: Tensor) -> torch.cuda.Event | None:
        """Queue `target.copy_(source)`. Returns what to `wait` for."""
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
        """What is computed from here on may use what was copied."""
        if copied is not None:
            torch.cuda.current_stream(self.device).wait_event(copied)

    def keep(self, tensor: Tensor) -> None:
        """Let the memory of a device tensor be given to another one only when the copies queued so far are done."""
        if self._stream is not None and tensor.device.type == "cuda":
            tensor.record_stream(self._stream)

    def finish(self) -> None:
        """Let the host wait for the copies queued so far: for the end, when their memory is about to be freed."""
        if self._stream is not None:
            self._stream.synchronize()

"""Host memory: buffers that the device can read directly, and returning freed memory to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref

import torch
from torch import Tensor

from toolkit.errors import UserError
from toolkit.units import as_size

_CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation


def host_buffer(num_bytes: int, device: torch.device) -> Tensor:
    """Uninitialised bytes on the host, [num_bytes], uint8; page-locked if `device` is a CUDA card.

    Only copies of page-locked memory overlap with computation. torch rounds its own pinned memory up to a power of two,
    which can double its size; this is ordinary memory registered with CUDA, of exactly the requested size.

    Raises:
        UserError: the system refuses to lock that much memory.
    """
    buffer = torch.empty(num_bytes, dtype=torch.uint8)
    if device.type == "cuda" and num_bytes:
        cudart = torch.cuda.cudart()
        if int(cudart.cudaHostRegister(buffer.data_ptr(), num_bytes, 0)) != 0:
            raise UserError(
                f"model.layer_offloading: the system refused to lock {as_size(num_bytes)} more of its memory for "
                "the card. Free memory, or offload less (model.layer_offloading_transformer_percent)."
            )
        # Tied to the storage, because views of it can outlive the tensor.
        weakref.finalize(buffer.untyped_storage(), cudart.cudaHostUnregister, buffer.data_ptr())
    return buffer


def host_twin(tensor: Tensor) -> Tensor:
    """Uninitialised host memory for a copy of a tensor; page-locked, and kept for reuse, if the tensor is on a card.

    Raises:
        UserError: the system refuses to lock that much memory.
    """
    try:
        return torch.empty_like(tensor, device="cpu", pin_memory=tensor.device.type == "cuda")
    except torch.AcceleratorError as error:
        if getattr(error, "error_code", None) != _CUDA_OUT_OF_MEMORY:
            raise
        raise UserError(
            f"model.activation_offloading: the system refused to lock {as_size(tensor.nbytes)} more of its memory "
            "for the card. Free memory, train on smaller images or batches, or turn activation offloading off."
        ) from error


def release_memory() -> None:
    """Return freed memory to the system.

    glibc keeps freed blocks below a threshold, which grows up to 32 MB, for later use. After a text encoder has been
    freed, that can be gigabytes.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries do not have it
        if trim is not None:
            trim(0)

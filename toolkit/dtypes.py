"""Tensor dtypes by the names that job files use: plain data, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from toolkit.choice import Choice, ChoiceOf


@dataclass(frozen=True, kw_only=True)
class DtypeChoice(Choice):
    """A dtype of tensors; `load` returns the torch dtype.

    Attributes:
        num_bytes: bytes per number.
    """

    num_bytes: int

    @property
    def memory(self) -> str:
        """See Choice.memory."""
        return f"{self.num_bytes} bytes per number"


DTYPES = {
    "bf16": DtypeChoice(
        "torch:bfloat16", summary="The range of fp32, 8 bits of precision.", spellings=("bfloat16",), num_bytes=2
    ),
    "fp16": DtypeChoice(
        "torch:float16",
        summary="11 bits of precision; overflows above 65504.",
        spellings=("float16", "half"),
        num_bytes=2,
    ),
    "fp32": DtypeChoice("torch:float32", summary="24 bits of precision.", spellings=("float32", "float"), num_bytes=4),
}
Dtype = Annotated[str, ChoiceOf(DTYPES)]


def torch_dtype(name: str) -> Any:
    """The `torch.dtype` of a key of `DTYPES`."""
    return DTYPES[name].load()

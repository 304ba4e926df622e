"""GPUs that people own or rent: their memory and their published speed."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.errors import UserError


@dataclass(frozen=True)
class Gpu:
    """A GPU, as its maker describes it.

    Attributes:
        label: its name in the docs.
        memory_gb: size of its memory.
        bf16_tflops: dense matrix products in bf16, added up in fp32, in 10^12 operations per second.
        bandwidth_gb_s: what its memory delivers, in 10^9 bytes per second.
        modal: its name on Modal; None if Modal does not rent it.
    """

    label: str
    memory_gb: int
    bf16_tflops: float
    bandwidth_gb_s: float
    modal: str | None = None


GPUS = (
    Gpu("RTX 4060", 8, 30, 272),
    Gpu("RTX 3060", 12, 25, 360),
    Gpu("RTX 4070", 12, 58, 504),
    Gpu("RTX 4060 Ti 16 GB", 16, 44, 288),
    Gpu("RTX 5070 Ti", 16, 88, 896),
    Gpu("RTX 3090", 24, 71, 936),
    Gpu("RTX 4090", 24, 165, 1008),
    Gpu("L4", 24, 121, 300, modal="L4"),
    Gpu("A10", 24, 125, 600, modal="A10"),
    Gpu("RTX 5090", 32, 209, 1792),
    Gpu("A100 40 GB", 40, 312, 1555, modal="A100-40GB"),
    Gpu("RTX A6000", 48, 155, 768),
    Gpu("L40S", 48, 362, 864, modal="L40S"),
    Gpu("A100 80 GB", 80, 312, 2039, modal="A100-80GB"),
    Gpu("H100 SXM", 80, 989, 3350, modal="H100"),
    Gpu("RTX PRO 6000", 96, 504, 1792, modal="RTX-PRO-6000"),
    Gpu("H200", 141, 989, 4800, modal="H200"),
    Gpu("B200", 180, 2250, 8000, modal="B200"),
)


def rented(name: str) -> tuple[str, Gpu, int]:
    """What `--gpu H100:2` asks for: Modal's name of the card, the card, and how many of it.

    Raises:
        UserError: Modal has no such card, or the number is not 1 to 8.
    """
    card, _, count = name.partition(":")
    known = {gpu.modal: gpu for gpu in GPUS if gpu.modal is not None}
    if card.upper() not in known:
        raise UserError(f'--gpu {name}: no card "{card}". Known: {", ".join(known)}; two of a kind: H100:2')
    if count and count not in "12345678":
        raise UserError(f"--gpu {name}: a machine has 1 to 8 cards")
    return card.upper(), known[card.upper()], int(count or 1)

"""AdamW on any device, with one byte per weight for each of its two moments.

We have our own because bitsandbytes has no optimizer for the CPU, and torchao compiles its optimizer at the first step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from toolkit.optimizers.choices import BLOCK

_FORMAT = torch.float8_e4m3fn
_LARGEST = torch.finfo(_FORMAT).max
_SMALLEST = 2.0**-9


class AdamW8bit(torch.optim.Optimizer):
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with moments in 8-bit floats.

    Blocks of 256 values share an fp32 scale, as in Dettmers et al. 2022 (arXiv 2110.02861). The second moment is stored
    as its square root, which needs only half the exponent range. Deterministic; weights must be fp32.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        assert closure is None, "closures are not supported"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad.float(), group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            for name in ("exp_avg", "exp_avg_root"):
                state[name], state[f"{name}_scale"] = encode(torch.zeros_like(parameter, dtype=torch.float32))
        beta1, beta2 = group["betas"]
        state["step"] += 1
        step = float(state["step"])
        mean = decode(state["exp_avg"], state["exp_avg_scale"], parameter.shape).lerp_(gradient, 1 - beta1)
        square = decode(state["exp_avg_root"], state["exp_avg_root_scale"], parameter.shape).square_()
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = square.sqrt_()
        state["exp_avg"], state["exp_avg_scale"] = encode(mean)
        state["exp_avg_root"], state["exp_avg_root_scale"] = encode(root, keep_positive=True)
        denominator = root.div_((1 - beta2**step) ** 0.5).add_(group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(mean, denominator, value=-group["lr"] / (1 - beta1**step))


def encode(values: Tensor, *, keep_positive: bool = False) -> tuple[Tensor, Tensor]:
    """Encode a tensor in 8-bit blocks.

    Args:
        values: fp32 tensor of any shape.
        keep_positive: whether to keep positive values from becoming 0, since dividing by 0 would blow up the update.

    Returns:
        Codes [N, 256] in float8 e4m3 and scales [N, 1] in fp32.
    """
    flat = values.reshape(-1)
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True) / _LARGEST
    scaled = blocks / scale.clamp(min=torch.finfo(torch.float32).tiny)
    if keep_positive:
        scaled = torch.where(scaled > 0, scaled.clamp(min=_SMALLEST), scaled)
    return scaled.clamp(-_LARGEST, _LARGEST).to(_FORMAT), scale


def decode(codes: Tensor, scale: Tensor, shape: torch.Size) -> Tensor:
    """The fp32 tensor of shape `shape` that was passed to `encode`, to within 6 %."""
    return (codes.float() * scale).view(-1)[: shape.numel()].view(shape)

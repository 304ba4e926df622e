from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from tests.tiny import tiny_model
from toolkit.config import NetworkConfig
from toolkit.memory.layer_offload import LayerOffload, choose_streamed
from toolkit.models.condition import Condition
from toolkit.networks.network import Network
from toolkit.quantize.fill import quantize_layer
from toolkit.randomness import Draws

CPU = torch.device("cpu")
SHARES = (0.0, 0.3, 0.5, 1.0)


class PoisonedOffload(LayerOffload):
    """Forgets every buffer but that of the block that begins, and fills it with NaN: reading it shows in the result."""

    def _enter(self, index: int, *, down: bool) -> Any:
        for buffer in self._ring:
            if buffer.block not in (None, index) and buffer.block != self._next(index, down=down):
                self._flat[buffer.block].to_host()
                buffer.block = None
                buffer.data.fill_(0xFF)
        return super()._enter(index, down=down)

    def _next(self, index: int, *, down: bool) -> int | None:
        return next((block for block in self._ahead(index, down=down) if block != index), None)


class Setup:
    """The tiny model with a LoRA that is not zero, offloaded or not."""

    def __init__(
        self, share: float, *, checkpointing: bool = False, kind: Callable[..., LayerOffload] = PoisonedOffload
    ) -> None:
        self.model: Flux2TinyModel = tiny_model("transformer")
        self.prepare()
        network = Network(self.model, NetworkConfig.model_validate({"linear": 4}), Draws(0))
        network.apply()
        self.parameters = network.parameters()
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
        transformer = self.model.transformer
        self.blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        streamed = choose_streamed([sum(p.numel() for p in block.parameters()) for block in self.blocks], share)
        self.offload = kind(self.blocks, streamed, device=CPU)
        self.offload.is_recomputed = checkpointing
        self.offload.attach()
        self.model.loader._offloads["transformer"] = [self.offload]
        if checkpointing:
            self.model.enable_gradient_checkpointing()

    def prepare(self) -> None:
        """What happens to the model before its LoRA."""

    def forward(self, seed: int = 0) -> Tensor:
        draw = torch.Generator().manual_seed(seed)
        return self.model.get_noise_prediction(
            torch.randn(2, 64, 2, 2, generator=draw),
            1000 * torch.rand(2, generator=draw),
            Condition(torch.randn(2, 48, 192, generator=draw)),
        )

    def gradients(self) -> list[Tensor]:
        found = [parameter.grad.clone() for parameter in self.parameters if parameter.grad is not None]
        for parameter in self.parameters:
            parameter.grad = None
        return found


class QuantizedSetup(Setup):
    def prepare(self) -> None:
        for name in self.model.get_quantizable_layers("transformer", self.model.transformer):
            quantize_layer(self.model.transformer, name, "nf4")


def _two_steps_with_samples(setup: Setup) -> list[Tensor]:
    """Accumulation, a sample between forward and backward and one after it, then another step."""
    first, second = setup.forward(1), setup.forward(2)
    with torch.no_grad():
        sample = [setup.forward(3), setup.forward(4)]
    (first.square().mean() + second.square().mean()).backward()
    gradients = setup.gradients()
    with torch.no_grad():
        sample.append(setup.forward(5))
    velocity = setup.forward()
    velocity.square().mean().backward()
    return [*sample, *gradients, velocity.detach(), *setup.gradients()]


def _equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) > 10 and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_outputs_and_gradients_are_the_same_bit_for_bit(checkpointing: bool) -> None:
    plain = _two_steps_with_samples(Setup(0, checkpointing=checkpointing))
    for share, kind in ((0.3, PoisonedOffload), (0.5, LayerOffload), (0.5, PoisonedOffload), (1, PoisonedOffload)):
        offloaded = _two_steps_with_samples(Setup(share, checkpointing=checkpointing, kind=kind))
        assert _equal(offloaded, plain), (share, kind)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_quantized_blocks_stream_as_they_are(checkpointing: bool) -> None:
    plain = _two_steps_with_samples(QuantizedSetup(0, checkpointing=checkpointing))
    for kind in (LayerOffload, PoisonedOffload):
        offloaded = QuantizedSetup(1, checkpointing=checkpointing, kind=kind)
        assert _equal(_two_steps_with_samples(offloaded), plain)


def test_the_weights_can_be_read_whether_or_not_they_are_in_the_ring() -> None:
    plain, offloaded = Setup(0), Setup(1)
    offloaded.forward()
    theirs = plain.model.transformer.state_dict()
    for name, value in offloaded.model.transformer.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def test_what_is_trained_stays_on_the_device() -> None:
    setup = Setup(1)
    before = [parameter.data_ptr() for parameter in setup.parameters]
    setup.forward().sum().backward()
    assert [parameter.data_ptr() for parameter in setup.parameters] == before


def test_a_running_block_reads_the_ring_and_nothing_else() -> None:
    setup = Setup(1, kind=LayerOffload)
    seen = []

    def look(block: nn.Module, _: object) -> None:
        places = {p.untyped_storage().data_ptr() for p in block.parameters() if not p.requires_grad}
        seen.append(places <= {buffer.data.untyped_storage().data_ptr() for buffer in setup.offload._ring})

    for block in setup.blocks:
        block.register_forward_pre_hook(look)
    setup.forward()
    assert seen == [True] * len(setup.blocks)


def test_the_ring_is_two_of_the_largest_block_whatever_is_streamed() -> None:
    setup = Setup(1)
    sizes = [flat.num_bytes for flat in setup.offload._flat.values()]
    assert [buffer.data.numel() for buffer in setup.offload._ring] == [max(sizes)] * 2


def test_each_block_is_fetched_once_per_pass() -> None:
    """At the turns nothing is fetched: the ring still holds what comes next."""
    fetched: list[int] = []

    class Counting(LayerOffload):
        def _fetch(self, block: int, buffer: Any) -> None:
            fetched.append(block)
            super()._fetch(block, buffer)

    setup = Setup(1, checkpointing=True, kind=Counting)
    count = len(setup.blocks)
    for _ in range(2):
        setup.forward().sum().backward()
    up, down = list(range(count)), list(reversed(range(count)))
    assert fetched == up + down[2:] + up[2:] + down[2:]


def test_detached_the_model_works_from_the_host() -> None:
    setup, plain = Setup(0.5), Setup(0)
    setup.forward()
    setup.offload.detach()
    assert torch.equal(setup.forward(), plain.forward())


@pytest.mark.parametrize("share", SHARES)
def test_up_to_any_block_the_share_of_the_bytes_streams_to_half_a_block(share: float) -> None:
    sizes = [982] * 8 + [491] * 48
    chosen = choose_streamed(sizes, share)
    for count in range(1, len(sizes) + 1):
        streamed = sum(size for index, size in enumerate(sizes[:count]) if index in chosen)
        assert abs(streamed - share * sum(sizes[:count])) <= max(sizes) / 2


@pytest.mark.gpu
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_on_a_card_offloaded_steps_equal_resident_ones(checkpointing: bool) -> None:
    device, results = torch.device("cuda"), []
    for streamed in ([], [0, 1, 3, 4]):
        torch.manual_seed(0)
        blocks = nn.ModuleList(nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256)) for _ in range(5))
        blocks.requires_grad_(False).to(device)
        offload = LayerOffload(list(blocks), streamed, device=device)
        offload.is_recomputed = checkpointing
        offload.attach()
        x = torch.randn(512, 256, device=device, requires_grad=True)
        for _ in range(3):
            y = x
            for block in blocks:
                y = y + (
                    torch.utils.checkpoint.checkpoint(block, y, use_reentrant=False) if checkpointing else block(y)
                )
            y.square().mean().backward()
        assert x.grad is not None
        results.append((y.detach(), x.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))

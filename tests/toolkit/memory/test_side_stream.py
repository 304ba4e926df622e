"""What rides on the order of copies: nothing is used before its copy is made, and nothing is overwritten during one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiers import IS_TORTURE
from tests.tiny import tiny_model
from tests.toolkit.memory.late_stream import LateStream, TornCopy
from tests.toolkit.memory.test_layer_offload import QuantizedSetup, Setup, _equal, _two_steps_with_samples
from toolkit.memory.activation_offload import ActivationOffload
from toolkit.memory.layer_offload import LayerOffload

CPU = torch.device("cpu")
STREAMS: dict[str, Callable[[], LateStream]] = {
    "early": partial(LateStream, "early"),
    "late": partial(LateStream, "late"),
    "random 0": partial(LateStream, "random", seed=0),
    "random 1": partial(LateStream, "random", seed=1),
}
TRIED = tuple(STREAMS) if IS_TORTURE else ("late",)  # late copies are the ones that a missing wait spoils


def _streamed(
    stream: LateStream,
    *,
    share: float = 1,
    checkpointing: bool = False,
    kind: type[Setup] = Setup,
    offload: type[LayerOffload] = LayerOffload,
) -> Setup:
    setup = kind(share, checkpointing=checkpointing, kind=offload)
    setup.offload._stream = stream
    return setup


def _with_inputs_offloaded(setup: Setup, stream: LateStream) -> Setup:
    inputs = ActivationOffload(smallest_bytes=0)
    inputs._streams[CPU] = stream
    setup.model.transformer.enable_gradient_checkpointing(inputs)
    return setup


@pytest.mark.parametrize(
    ("checkpointing", "kind"),
    [
        pytest.param(False, Setup, id="kept-plain"),
        pytest.param(True, QuantizedSetup, id="recomputed-quantized"),
        pytest.param(False, QuantizedSetup, id="kept-quantized", marks=pytest.mark.torture),
        pytest.param(True, Setup, id="recomputed-plain", marks=pytest.mark.torture),
    ],
)
def test_streamed_blocks_learn_the_same_whenever_their_copies_are_made(checkpointing: bool, kind: type[Setup]) -> None:
    resident = _two_steps_with_samples(kind(0, checkpointing=checkpointing))
    for share, name in ((0.3, "late"), (0.5, "random 0"), *((1, name) for name in TRIED)):
        setup = _streamed(STREAMS[name](), share=share, checkpointing=checkpointing, kind=kind)
        assert _equal(_two_steps_with_samples(setup), resident), (share, name)


@pytest.mark.parametrize("share", [0, 1], ids=["blocks on the device", "blocks streamed"])
def test_offloaded_inputs_learn_the_same_whenever_their_copies_are_made(share: float) -> None:
    plain = _two_steps_with_samples(Setup(0, checkpointing=True))
    for name in ("random 0", *TRIED):
        setup = _streamed(STREAMS[name](), share=share, checkpointing=True)
        assert _equal(_two_steps_with_samples(_with_inputs_offloaded(setup, STREAMS[name]())), plain), name


def test_a_streamed_text_encoder_writes_the_same_whenever_its_copies_are_made() -> None:
    prompts = ["a red circle", "a blue square on a green field"]
    plain = tiny_model("text_encoder").get_prompt_embeds(prompts)
    for share, name in ((0.3, "late"), (1.0, "late"), (1.0, "random 0")):
        model = tiny_model("text_encoder", layer_offloading=True, layer_offloading_text_encoder_percent=share)
        (offload,) = model.loader._offloads["text_encoder"]
        offload._stream = STREAMS[name]()
        for _ in range(2):
            assert torch.equal(model.get_prompt_embeds(prompts), plain), (share, name)


def test_when_streaming_ends_no_copy_is_under_way() -> None:
    stream = LateStream("late")
    setup = _streamed(stream)
    with torch.no_grad():
        setup.forward()
    assert stream.under_way > 0, "the first blocks are fetched for the next forward"
    setup.offload.detach()
    assert stream.under_way == 0


# The tests above can fail. A wait that is left out is found, and so is a copy into memory that is in use.

PREPARED: dict[str, Callable[[LateStream], Setup]] = {
    "blocks kept": _streamed,
    "blocks recomputed": partial(_streamed, checkpointing=True),
    "inputs": lambda stream: _with_inputs_offloaded(Setup(0, checkpointing=True), stream),
}


@pytest.mark.parametrize("prepared", PREPARED)
def test_a_wait_that_is_left_out_is_found(prepared: str) -> None:
    sound = LateStream("late")
    right = _one_step(PREPARED[prepared](sound))
    assert sound.num_waits >= 3
    for number in (0, sound.num_waits // 2, sound.num_waits - 1):
        with contextlib.suppress(TornCopy):
            found = _one_step(PREPARED[prepared](LateStream("late", forgotten=number)))
            assert not _equal(found, right), number


class Overtakes(LayerOffload):
    """Fetches the block after this one to where this one is."""

    def _enter(self, index: int, *, down: bool) -> Any:
        current = super()._enter(index, down=down)
        following = self._ahead(index, down=down)[1:]
        if current is not None and following and current.block == index:
            other = self._flat[following[0]]
            assert other.host is not None
            self._stream.copy(current.data[: other.num_bytes], other.host)
        return current


@pytest.mark.parametrize("name", ["early", "late"])
def test_a_copy_over_the_running_block_is_found(name: str) -> None:
    right = _one_step(Setup(0))
    with contextlib.suppress(TornCopy):
        assert not _equal(_one_step(_streamed(STREAMS[name](), offload=Overtakes)), right)


def test_a_change_of_what_a_copy_reads_is_found() -> None:
    stream = LateStream("late")
    target, source = torch.zeros(4), torch.ones(4)
    token = stream.copy(target, source)
    source += 1
    with pytest.raises(TornCopy, match="reads"):
        stream.wait(token)


def _one_step(setup: Setup) -> list[Tensor]:
    velocity = setup.forward()
    velocity.square().mean().backward()
    return [velocity.detach(), *setup.gradients()]

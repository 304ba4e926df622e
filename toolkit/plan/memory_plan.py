"""Predicts the peak memory of each phase of a run before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from toolkit.memory.tiling import WHOLE_LOW_VRAM_PX, WHOLE_PX
from toolkit.model_size import TextEncoderSize
from toolkit.optimizers.choices import OPTIMIZERS
from toolkit.plan.cards.shares import choose_split, shares_of
from toolkit.plan.plan_inputs import PlanInputs
from toolkit.plan.stage_list import ENCODE_IMAGES, ENCODE_TEXT, ENCODE_VIEWS, TRAIN
from toolkit.plan.step_memory import (
    Parts,
    activations_in_ram,
    forward_bytes,
    gathered_weights,
    step_moments,
    working_bytes,
)
from toolkit.quantize.qtypes import bits_of

# Memory of the driver for a process, its kernels and library handles; 0.4 to 0.7 GB on recent cards.
CONTEXT_BYTES = 700_000_000
# What torch allocates for cuBLAS to work in: twice 32 MB on Hopper, less on older cards.
CUBLAS_BYTES = 70_000_000
# cuDNN's convolutions copy their input and output into another layout. Measured on an H100 at 512 to 1536 pixels: so
# many times what encoding and decoding hold without.
CUDNN_ENCODE, CUDNN_DECODE = 1.2, 1.59
# Gaps between short-lived tensors. Weights are allocated once, in large pieces, and leave almost no gaps.
GAPS_SHARE = 0.05
# Python, torch, diffusers and transformers; CUDA's libraries add to them: 1.8 GB in all were seen on an H100.
PROCESS_BYTES = {"cpu": 455_000_000, "mps": 455_000_000, "cuda": 2_200_000_000}
RING_BLOCKS = 2
# On a CPU the C library keeps memory that was freed between live tensors: about four times the working set of a block,
# measured on four runs (benchmarks/memory.py). Tensors of 32 MB and more are returned to the system, which bounds it.
HEAP_FACTOR = 4
HEAP_LIMIT_BYTES = 1_000_000_000
_WEIGHTS = (
    "weights",
    "gathered weights",
    "assistant LoRA",
    "VAE",
    "LoRA",
    "adapters",
    "optimizer",
    "average",
    "ring",
    "cuBLAS",
)


@dataclass(frozen=True)
class Phase:
    """A part of a run, at its peak memory.

    Attributes:
        name: what happens in the phase.
        stage: the stage of the run that the phase belongs to.
        device: kind of data -> bytes on the computing device; on a CPU this is RAM.
        host: kind of data -> further bytes in RAM.
        others: for each further card of a split model, kind of data -> bytes on it.
    """

    name: str
    stage: str
    device: Mapping[str, int]
    host: Mapping[str, int]
    others: tuple[Mapping[str, int], ...] = ()

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors on the device, the fullest of several: what torch reports as allocated."""
        return max(sum(parts.values()) for parts in (self.device, *self.others))


@dataclass(frozen=True)
class Plan:
    """The memory plan of a run.

    Attributes:
        inputs: what the plan was computed from.
        phases: the phases of the run, in order.
        split: the number of blocks on each card of a model that is split over several; None if it is not.
    """

    inputs: PlanInputs
    phases: tuple[Phase, ...]
    split: tuple[int, ...] | None = None

    def gpu_bytes(self, phase: Phase) -> int:
        """GPU memory that a phase takes on its fullest card; 0 on a CPU."""
        return max(self.card_bytes(phase))

    def card_bytes(self, phase: Phase) -> tuple[int, ...]:
        """Memory that a phase takes on each card; 0 on a CPU."""
        return tuple(0 if self.inputs.device == "cpu" else used_bytes(parts) for parts in (phase.device, *phase.others))

    def ram_bytes(self, phase: Phase) -> int:
        """RAM that a phase takes."""
        own = phase.tensor_bytes if self.inputs.device == "cpu" else 0
        return own + sum(phase.host.values()) + PROCESS_BYTES[self.inputs.device]

    @property
    def peak_gpu_bytes(self) -> int:
        """Peak GPU memory of the run, on the fullest of several cards."""
        return max(self.card_peaks)

    @property
    def card_peaks(self) -> tuple[int, ...]:
        """Peak memory of each card of the run."""
        return tuple(map(max, zip(*map(self.card_bytes, self.phases), strict=True)))

    @property
    def peak_ram_bytes(self) -> int:
        """Peak RAM of the run."""
        return max(map(self.ram_bytes, self.phases))

    def stage_peaks(self) -> dict[str, tuple[int, int]]:
        """Stage name -> (peak RAM, peak of tensors on the card), to be compared with what is measured."""
        peaks: dict[str, tuple[int, int]] = {}
        for phase in self.phases:
            ram, gpu = peaks.get(phase.stage, (0, 0))
            tensors = 0 if self.inputs.device == "cpu" else phase.tensor_bytes
            peaks[phase.stage] = (max(ram, self.ram_bytes(phase)), max(gpu, tensors))
        return peaks


def make_plan(inputs: PlanInputs) -> Plan:
    """Compute the plan of a run. Pure arithmetic: no weights are read."""
    views = [_encode_views(inputs)] if inputs.work.view_parameters else []
    with_transformer = [_load, _train, *([_sample] if inputs.work.sample_px else []), _save]
    phases = [_encode_text(inputs), _encode_images(inputs), *views, *(phase(inputs) for phase in with_transformer)]
    split = None
    if inputs.cards:
        split = choose_split(inputs, lambda share: used_bytes(_train(share).device))
        shares = shares_of(inputs, split)
        phases[-len(with_transformer) :] = [_split(phase, inputs, shares) for phase in with_transformer]
        phases = [phase if phase.others else replace(phase, others=({},) * (len(split) - 1)) for phase in phases]
    return Plan(inputs, tuple(map(_with_cublas, phases)) if inputs.device == "cuda" else tuple(phases), split)


def used_bytes(parts: Mapping[str, int]) -> int:
    """Memory of a card that a process takes for these kinds of data; 0 if it has nothing there."""
    if not parts:
        return 0
    gaps = sum(size for name, size in parts.items() if name not in _WEIGHTS) * GAPS_SHARE
    return round(sum(parts.values()) + gaps + CONTEXT_BYTES)


def transformer_bytes(inputs: PlanInputs) -> int:
    """Bytes of the transformer's weights, wherever they are. In a full fine-tune, they are the trained weights."""
    size = inputs.size.transformer
    if inputs.lora_rank is None:
        return size.parameters * inputs.trained_width
    in_blocks = size.block_parameters * bits_of(inputs.qtype, inputs.width) / 8
    return round(in_blocks) + (size.parameters - size.block_parameters) * inputs.width


def quantized_bytes(inputs: PlanInputs) -> dict[tuple[str, str], int]:
    """(component, number format) -> bytes, for everything that is quantized."""
    found = {}
    if inputs.qtype is not None:
        found["transformer", inputs.qtype] = transformer_bytes(inputs)
    if inputs.te_qtype is not None:
        encoders = [size for size in inputs.size.text_encoders if not size.is_held_whole]
        found["text_encoder", inputs.te_qtype] = sum(
            round(size.num_layers * _layer_bytes(inputs, size)) + size.embedding_parameters * inputs.te_width
            for size in encoders
        )
    return found


def offloaded_bytes(inputs: PlanInputs) -> int:
    """Bytes of block weights that are offloaded to RAM."""
    if inputs.lora_rank is None or inputs.device == "cpu":
        return 0
    bits = bits_of(inputs.qtype, inputs.width)
    return round(inputs.offloaded * inputs.size.transformer.block_parameters * bits / 8)


def _split(make: Callable[[PlanInputs], Phase], inputs: PlanInputs, shares: tuple[PlanInputs, ...]) -> Phase:
    """A phase on several cards; what is in RAM is that of the whole model."""
    first, *others = (make(share).device for share in shares)
    return replace(make(inputs), device=first, others=tuple(others))


def _with_cublas(phase: Phase) -> Phase:
    first, *others = ({**parts, "cuBLAS": CUBLAS_BYTES} if parts else parts for parts in (phase.device, *phase.others))
    return replace(phase, device=first, others=tuple(others))


def _encode_text(inputs: PlanInputs) -> Phase:
    """One prompt at a time goes through each of the encoders, which are all loaded.

    The hidden state of every layer is kept until the last layer is done.
    """
    encoders, width = inputs.size.text_encoders, inputs.te_width
    tables = sum(size.embedding_parameters * width for size in encoders)
    layers = sum(round(size.num_layers * _layer_bytes(inputs, size)) for size in encoders)
    ring, waiting = map(sum, zip(*(_streamed(inputs, size) for size in encoders), strict=True))
    device = {
        "weights": tables + layers - waiting,
        "activations": max(size.num_tokens * size.num_layers * size.hidden_size * width for size in encoders),
        "working set": max(_text_working(inputs, size) for size in encoders),
    }
    if waiting:
        device["ring"] = ring
    return Phase(
        ENCODE_TEXT.name, ENCODE_TEXT.name, device, _host(inputs, {"offloaded weights": waiting, "loading": tables})
    )


def _te_qtype(inputs: PlanInputs, size: TextEncoderSize) -> str | None:
    return None if size.is_held_whole else inputs.te_qtype


def _layer_bytes(inputs: PlanInputs, size: TextEncoderSize) -> float:
    return size.layer_parameters * bits_of(_te_qtype(inputs, size), inputs.te_width) / 8


def _streamed(inputs: PlanInputs, size: TextEncoderSize) -> tuple[int, int]:
    """Bytes of a text encoder's ring on the card, and of its layers that are offloaded to RAM."""
    if inputs.device == "cpu" or size.is_held_whole or not inputs.te_offloaded:
        return 0, 0
    layer = _layer_bytes(inputs, size)
    return round(RING_BLOCKS * layer), round(inputs.te_offloaded * size.num_layers * layer)


def _text_working(inputs: PlanInputs, size: TextEncoderSize) -> int:
    dequantized = 0 if _te_qtype(inputs, size) is None else size.hidden_size * size.inner_size
    return (4 * size.num_tokens * size.inner_size + dequantized) * inputs.te_width


def _encode_images(inputs: PlanInputs) -> Phase:
    device = _vae(inputs) | {"working set": _vae_encode(inputs, inputs.work.encode_px)}
    return Phase(ENCODE_IMAGES.name, ENCODE_IMAGES.name, device, _host(inputs, {}))


def _encode_views(inputs: PlanInputs) -> Phase:
    """A vision encoder is loaded through RAM, in fp32, and sees one image at a time."""
    weights = 4 * inputs.work.view_parameters
    device = {"weights": weights, "working set": 4 * inputs.work.view_numbers}
    kept = _vae(inputs) if inputs.work.keeps_vae else {}
    return Phase(ENCODE_VIEWS.name, ENCODE_VIEWS.name, kept | device, _host(inputs, {"loading": weights}))


def _load(inputs: PlanInputs) -> Phase:
    """Tensor by tensor: besides what stays, one layer as it is in the file, in RAM and wherever it is quantized."""
    layer = inputs.size.transformer.largest_linear * inputs.width
    quantizing = {} if inputs.qtype is None else {"working set": 2 * layer}
    parts, host = _loaded(inputs), {"loading": layer} | _offloaded(inputs)
    if inputs.low_vram and inputs.device != "cpu":
        host |= quantizing
    else:
        parts |= quantizing
    return Phase("load", TRAIN.name, parts, _host(inputs, host))


def _train(inputs: PlanInputs) -> Phase:
    base = _resident(inputs) | gathered_weights(inputs)
    fullest = max(step_moments(inputs), key=lambda parts: sum(parts.values()))
    host = _offloaded(inputs) | {"offloaded activations": activations_in_ram(inputs)}
    if inputs.device == "cpu":
        host["heap"] = min(HEAP_FACTOR * working_bytes(inputs), HEAP_LIMIT_BYTES)
    return Phase("train", TRAIN.name, base | fullest | _dequantized(inputs), _host(inputs, host))


def _sample(inputs: PlanInputs) -> Phase:
    work = inputs.work
    decode = _vae_decode(inputs, work.decode_px)
    forward = forward_bytes(inputs, work.sample_px) + sum(_dequantized(inputs).values())
    encode = _vae_encode(inputs, work.shown_px)
    parts = _resident(inputs) | gathered_weights(inputs) | {"working set": max(forward, decode, encode)}
    if inputs.keeps_average:
        parts["raw weights"] = 4 * inputs.num_held
    if inputs.lora_rank is None and inputs.is_mixed and inputs.trained_width == 4 and not inputs.is_sharded:
        parts["bf16 copies"] = inputs.width * inputs.num_trained
    return Phase("sample", TRAIN.name, parts, _host(inputs, _offloaded(inputs)))


def _vae_encode(inputs: PlanInputs, px: int) -> int:
    """Bytes that encoding a picture of `px` pixels takes at its peak."""
    factor = CUDNN_ENCODE if inputs.device == "cuda" else 1
    return round(factor * inputs.size.vae.encode.at(is_mixed=inputs.vae_width < 4) * min(px, WHOLE_PX))


def _vae_decode(inputs: PlanInputs, px: int) -> int:
    """Bytes that decoding a picture of `px` pixels takes at its peak."""
    factor = CUDNN_DECODE if inputs.device == "cuda" else 1
    whole_px = min(px, WHOLE_LOW_VRAM_PX if inputs.low_vram else WHOLE_PX)
    return round(factor * inputs.size.vae.decode.at(is_mixed=inputs.vae_width < 4) * whole_px)


def _save(inputs: PlanInputs) -> Phase:
    """Weights are cast on the device, and then written through RAM tensor by tensor."""
    count = inputs.num_trained
    largest = min(count, inputs.size.transformer.largest_linear)
    # In shards, whole weights are gathered one by one; those of a LoRA are small.
    cast = 2 * largest if inputs.is_sharded and inputs.lora_rank is None else count
    parts = _resident(inputs) | {"saved weights": cast * inputs.save_width}
    written = largest * inputs.trained_width
    return Phase("save", TRAIN.name, parts, _host(inputs, _offloaded(inputs) | {"written": written}))


def _dequantized(inputs: PlanInputs) -> Parts:
    """A quantized layer multiplies with its whole weight, which is dequantized in each pass; not so in 8 bits."""
    largest = inputs.size.transformer.largest_linear
    return {"a layer's weight": largest * inputs.width} if inputs.dequantizes else {}


def _resident(inputs: PlanInputs) -> Parts:
    """What stays on the device throughout training."""
    parts = _loaded(inputs)
    if inputs.lora_rank is not None:
        parts["LoRA"] = inputs.trained_width * (inputs.num_held - inputs.adapter_parameters)
        parts["adapters"] = inputs.trained_width * inputs.adapter_parameters
    parts["optimizer"] = round((OPTIMIZERS[inputs.optimizer].state_bytes + inputs.spare_width) * inputs.num_held)
    if inputs.keeps_average:
        parts["average"] = 4 * inputs.num_held
    return parts


def _loaded(inputs: PlanInputs) -> Parts:
    waiting = offloaded_bytes(inputs)
    parts = {"weights": -(-(transformer_bytes(inputs) - waiting) // inputs.shards)}
    if waiting:
        bits = bits_of(inputs.qtype, inputs.width)
        parts["ring"] = round(RING_BLOCKS * inputs.size.transformer.largest_block * bits / 8)
    if inputs.assistant_parameters:
        parts["assistant LoRA"] = inputs.assistant_parameters * inputs.width
    if inputs.work.keeps_vae or inputs.work.sample_px:
        parts |= _vae(inputs)
    return parts


def _vae(inputs: PlanInputs) -> Parts:
    """The VAE's weights; nothing where a transformer is trained on pixels."""
    size = inputs.size.vae.parameters * inputs.vae_width
    return {"VAE": size} if size else {}


def _offloaded(inputs: PlanInputs) -> Parts:
    return {"offloaded weights": offloaded_bytes(inputs)}


def _host(inputs: PlanInputs, parts: Mapping[str, int]) -> Parts:
    return {name: size for name, size in {"encodings": inputs.work.encodings, **parts}.items() if size}

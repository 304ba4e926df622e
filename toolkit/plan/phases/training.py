"""The phases in which the transformer is loaded: loading it, training, sampling and saving."""

from __future__ import annotations

from dataclasses import replace

from toolkit.optimizers.choices import optimizer_row
from toolkit.plan.phases.encode import vae_decoding, vae_encoding
from toolkit.plan.phases.phase import Phase, in_ram
from toolkit.plan.phases.stored import RING_BLOCKS, offloaded, offloaded_bytes, transformer_bytes, vae_weights
from toolkit.plan.plan_inputs import PlanInputs
from toolkit.plan.stage_list import DRAW, TRAIN
from toolkit.plan.step_memory import (
    Parts,
    activations_in_ram,
    forward_bytes,
    gathered_weights,
    step_moments,
    working_bytes,
)
from toolkit.quantize.qtypes import bits_of

# On a CPU the C library keeps memory that was freed between live tensors: about four times the working set of a block,
# measured on four runs (benchmarks/memory.py). Tensors of 32 MB and more are returned to the system, which bounds it.
HEAP_FACTOR = 4
HEAP_LIMIT_BYTES = 1_000_000_000
_MERGE_WIDTH = 16  # bytes per weight of a layer while its change is computed and added, in fp32


def load(inputs: PlanInputs) -> Phase:
    """Tensor by tensor: besides what stays, one layer as it is in the file, in RAM and wherever it is quantized."""
    layer = inputs.size.transformer.largest_linear * inputs.width
    quantizing = {} if inputs.qtype is None else {"working set": 2 * layer}
    parts, host = _loaded(inputs), {"loading": layer} | offloaded(inputs)
    if inputs.low_vram and inputs.device != "cpu":
        host |= quantizing
    else:
        parts |= quantizing
    return Phase("load", _stage(inputs), parts, in_ram(inputs, host))


def train(inputs: PlanInputs) -> Phase:
    """The fullest moment of a step."""
    base = _resident(inputs) | gathered_weights(inputs)
    fullest = max(step_moments(inputs), key=lambda parts: sum(parts.values()))
    host = _offloaded(inputs) | {"offloaded activations": activations_in_ram(inputs)}
    if inputs.device == "cpu":
        host["heap"] = min(HEAP_FACTOR * working_bytes(inputs), HEAP_LIMIT_BYTES)
    return Phase("train", TRAIN.name, base | fullest | _dequantized(inputs), in_ram(inputs, host))


def sample(inputs: PlanInputs) -> Phase:
    """Drawing a sample: a forward pass, or decoding it, or encoding a reference, whichever takes most."""
    work = inputs.work
    decode = vae_decoding(inputs, work.decode_px)
    forward = inputs.sample_batch * forward_bytes(inputs, work.sample_px) + sum(_dequantized(inputs).values())
    encode = vae_encoding(inputs, work.shown_px)
    if inputs.preview == "never":
        return _without_gradients(inputs, "sample", max(forward, decode, encode))
    layer = inputs.size.transformer.largest_linear * inputs.width  # the other weights are loaded as in `load`
    quantizing = 2 * layer if inputs.qtype is not None and (not inputs.low_vram or inputs.device == "cpu") else 0
    drawing = replace(inputs, preview="run")
    phase = _without_gradients(drawing, "sample", max(forward, decode, encode, quantizing))
    return replace(phase, host={**phase.host, "loading": layer})


def validate(inputs: PlanInputs) -> Phase:
    """A forward pass of a validation round, over several noise levels of an image at once."""
    work = inputs.work
    forward = work.validate_together * forward_bytes(inputs, work.validate_px) + sum(_dequantized(inputs).values())
    return _without_gradients(inputs, "validate", forward)


def score(inputs: PlanInputs) -> Phase:
    """The image encoder that scores a round of samples, or its text side, is loaded in fp32 beside everything else."""
    weights = 4 * inputs.work.score_parameters
    parts = _resident(inputs) | {"image encoder": weights, "working set": 4 * inputs.work.score_numbers}
    return Phase("score", _stage(inputs), parts, in_ram(inputs, _offloaded(inputs) | {"loading": weights}))


def _without_gradients(inputs: PlanInputs, name: str, working_set: int) -> Phase:
    """A phase between steps that uses the weights that users get."""
    parts = _resident(inputs) | gathered_weights(inputs) | {"working set": working_set}
    parts |= _raw_weights(inputs)
    if inputs.lora_rank is None and inputs.is_mixed and inputs.trained_width == 4 and not inputs.is_sharded:
        frozen = inputs.size.transformer.largest_linear if inputs.is_filtered else 0
        parts["bf16 copies"] = inputs.width * (inputs.num_trained + frozen)
    return Phase(name, _stage(inputs), parts, in_ram(inputs, _offloaded(inputs)))


def save(inputs: PlanInputs) -> Phase:
    """Weights are cast on the device, and then written through RAM: a LoRA's at once, others one by one."""
    count, largest = inputs.num_trained, inputs.size.transformer.largest_linear
    cast = count * inputs.save_width
    if inputs.merges:  # a weight, dequantized, its change, their scaled sum and what is written, one layer at a time
        cast = largest * (_MERGE_WIDTH + inputs.save_width)
    elif inputs.lora_rank is not None:
        largest = min(count, largest)
    else:  # a weight that the file joins from several, or that is gathered from shards, and cast
        cast = largest * (inputs.trained_width + inputs.save_width)
    parts = _resident(inputs) | _raw_weights(inputs) | {"saved weights": cast}
    written = largest * inputs.trained_width
    return Phase("save", TRAIN.name, parts, in_ram(inputs, _offloaded(inputs) | {"written": written}))


def _raw_weights(inputs: PlanInputs) -> Parts:
    """Samples and users' files are made of an average, whether it is the job's or the optimizer's own."""
    return {"raw weights": inputs.set_aside_bytes} if inputs.set_aside_bytes else {}


def _stage(inputs: PlanInputs) -> str:
    return TRAIN.name if inputs.trains else DRAW.name


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
    updated = inputs.num_held if inputs.trains else 0
    parts["optimizer"] = round((optimizer_row(inputs.optimizer).state_bytes + inputs.spare_width) * updated)
    if inputs.num_averages:
        parts["average"] = 4 * inputs.num_averages * inputs.num_held
    if inputs.preview == "run":
        parts["weights of samples"] = parts["weights"] + parts.get("ring", 0) + inputs.trained_width * inputs.num_held
    return parts


def _offloaded(inputs: PlanInputs) -> Parts:
    """The block weights that are offloaded to RAM, also of other weights that samples are drawn on."""
    return {"offloaded weights": offloaded_bytes(inputs) * (2 if inputs.preview == "run" else 1)}


def _loaded(inputs: PlanInputs) -> Parts:
    waiting = offloaded_bytes(inputs)
    parts = {"weights": -(-(transformer_bytes(inputs) - waiting) // inputs.shards)}
    if waiting:
        bits = bits_of(inputs.qtype, inputs.width)
        parts["ring"] = round(RING_BLOCKS * inputs.size.transformer.largest_block * bits / 8)
    if inputs.assistant_parameters:
        parts["assistant LoRA" if inputs.trains else "LoRAs"] = inputs.assistant_parameters * inputs.width
    if inputs.work.keeps_vae or inputs.work.sample_px:
        parts |= vae_weights(inputs)
    return parts

"""The inputs of a memory plan that the settings of a job give."""

from __future__ import annotations

from typing import Any, Literal

from toolkit.compute.choices import AUTO
from toolkit.config import EmaConfig, TrainingProcessConfig
from toolkit.config.drawing.together import most_together
from toolkit.config.drawing.twin import twin_of
from toolkit.dtypes import DTYPES
from toolkit.model_size import ModelSize
from toolkit.plan.of_job.network import network_inputs
from toolkit.plan.plan_inputs import Device, PlanInputs, Workload


def inputs_of(
    process: TrainingProcessConfig,
    size: ModelSize,
    work: Workload,
    device: Device,
    *,
    assistant_parameters: int = 0,
    adapter_parameters: int = 0,
    adapter_in_blocks: tuple[int, ...] = (),
    lora_sides: tuple[int, ...] | None = None,
    fixed_weights: tuple[int, ...] | None = None,
    cards: tuple[int, ...] = (),
    ranks: int = 1,
) -> PlanInputs:
    """The inputs that a job's settings give; the numbers of weights, `lora_sides`, `cards`, `ranks` as in `PlanInputs`.

    Of a network whose layers are unknown, every layer that can carry one is assumed to.
    """
    model, train, network = process.model, process.train, process.network
    width, ema = DTYPES[train.dtype].num_bytes, train.ema_config or EmaConfig()
    weights = train.full_finetune_weights
    batch = process.sample.batch_size
    te_share = model.layer_offloading_text_encoder_percent
    trained: dict[str, Any] = {"lora_rank": 0, "lora_sides": lora_sides, "fixed_weights": fixed_weights or ()}
    if network is not None:
        is_mixed = width < 4
        trained = network_inputs(network, size.transformer, is_mixed=is_mixed, sides=lora_sides, fixed=fixed_weights)
        lora_sides, fixed_weights = trained["lora_sides"], trained["fixed_weights"]
    outside = sum(runs[-1] for runs in (lora_sides, fixed_weights) if runs)
    blocks_only = network is None or (network.transformer_only if lora_sides is None else not outside)
    own_vae = 4 if device == "cpu" else width
    return PlanInputs(
        size=size,
        work=work,
        device=device,
        width=width,
        is_bf16=train.dtype == "bf16",
        vae_width=own_vae if model.vae_dtype is None else DTYPES[model.vae_dtype].num_bytes,
        te_width=width if model.te_dtype is None else DTYPES[model.te_dtype].num_bytes,
        qtype=model.qtype if model.quantize else None,
        compute="bf16" if model.compute == AUTO else model.compute,  # what takes more memory
        te_qtype=model.qtype_te if model.quantize_te else None,
        text_layer_parameters=_text_layer(process),
        te_follows="quantize_te" not in model.model_fields_set,
        **{**trained, **({"lora_rank": None} if train.full_finetune else {})},
        blocks_only=blocks_only,
        optimizer=train.optimizer,
        keeps_average=ema.use_ema,
        snapshots=ema.num_averages - ema.use_ema,
        batch_size=process.largest_batch,
        accumulation=train.gradient_accumulation,
        recomputes=train.gradient_checkpointing,
        backwards=_backwards(process, in_blocks=adapter_in_blocks, blocks_only=blocks_only, ranks=ranks),
        low_vram=model.low_vram,
        save_width=DTYPES[process.save.dtype].num_bytes,
        merges=train.merge_network_on_save,
        offloaded=_share(model.layer_offloading_transformer_percent, is_on=model.layer_offloading),
        te_offloaded=_share(te_share, is_on=model.layer_offloading),
        te_share=1.0 if te_share == "auto" else te_share,
        offloads_activations=model.activation_offloading,
        trained_width=4 if weights == "fp32" else 2,
        spare_width=2 if weights == "bf16_split" else 0,
        is_fused=train.fused_backward_pass,
        assistant_parameters=assistant_parameters,
        adapter_parameters=adapter_parameters,
        sample_batch=1 if batch == "auto" else min(batch, most_together(process)),
        preview="never" if twin_of(process) is None else "round",
        adapter_in_blocks=adapter_in_blocks,
        cards=cards,
        ranks=ranks,
        context_parallel=train.context_parallel if ranks > 1 else 1,
        is_sharded=train.sharding == "full" and ranks > 1,
    )


def _backwards(
    process: TrainingProcessConfig, *, in_blocks: tuple[int, ...], blocks_only: bool, ranks: int
) -> tuple[Literal["own", "autograd"], ...]:
    """Which backward pass blocks use: their own is for a LoRA on layers that nothing else changes."""
    network, train = process.network, process.train
    is_sharded = train.sharding == "full" and ranks > 1
    if network is None or train.full_finetune or is_sharded or any(in_blocks):
        return ("autograd",)
    kind, settings = network.at(None)
    if kind != "lora" or settings.draws_numbers:
        return ("autograd",)
    is_everywhere = not network.patterns and not network.network_kwargs.full_if_contains
    is_alone = blocks_only and not process.adapter and not process.model.assistant_lora_path
    return ("own",) if is_everywhere and is_alone else ("own", "autograd")


def _text_layer(process: TrainingProcessConfig) -> int:
    """Number of weights of the layer that texts go through before they are kept."""
    if process.card is None or not process.embeds_text:
        return 0
    return process.card.prompt_embeds_shape[1] * process.card.text_layer_width


def _share(value: float | Literal["auto"], *, is_on: bool) -> float:
    """`auto` starts at 0; `toolkit.plan.auto` raises it as far as needed."""
    return 0.0 if value == "auto" or not is_on else value

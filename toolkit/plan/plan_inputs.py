"""What a memory plan is made from: the settings of a job that cost memory, and the sizes of what it works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from toolkit.config import TrainingProcessConfig
from toolkit.dtypes import DTYPES
from toolkit.model_size import ModelSize

Device = Literal["cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Workload:
    """The largest things that go through a model, in pixels.

    Attributes:
        train_px: of one example, its references included.
        reference_px: of them, those of its references.
        encode_px: of one picture for the VAE.
        sample_px: of one sample with its references, as the transformer sees them; 0 if none is drawn.
        decode_px: of one sample.
        shown_px: of one reference of a sample, which is encoded while the transformer is there.
        keeps_vae: the VAE stays loaded while training.
        passes: forward passes for each batch that keep their activations until backward.
        encodings: bytes of encoded captions and pictures that are kept in memory.
    """

    train_px: int
    encode_px: int
    reference_px: int = 0
    sample_px: int = 0
    decode_px: int = 0
    shown_px: int = 0
    keeps_vae: bool = False
    passes: int = 1
    encodings: int = 0


@dataclass(frozen=True)
class PlanInputs:
    """Everything that decides how much memory a run takes.

    Attributes:
        size: of the model.
        work: what goes through it.
        device: where the model is.
        width: bytes of a number that is computed with; 4 means no autocast.
        is_bf16: such a number is a bf16: only then can trained weights be held as such.
        vae_width: the same for the VAE.
        te_width: bytes of an unquantized weight of the text encoder.
        qtype, te_qtype: number formats of the frozen weights; None leaves them as they are.
        te_follows: the job leaves it to `quantize` whether the text encoder is quantized.
        lora_rank: None for a full fine-tune.
        blocks_only: the LoRA is on the layers of blocks only.
        lora_sides: inputs plus outputs of the layers that carry LoRA, of each run of blocks, then of those outside;
            None: every layer that may carry one does.
        trained_width: bytes of a trained weight and of its gradient.
        spare_width: bytes kept beside each trained weight, such as the other half of one that is held in bf16.
        optimizer: a key of `OPTIMIZERS`.
        keeps_average: there is a running average of the trained weights.
        batch_size: examples that are computed at once.
        accumulation: batches over which gradients are summed.
        is_fused: each weight is updated as soon as its gradient is there, so that one gradient is alive at a time.
        recomputes: activations within blocks are recomputed (gradient checkpointing).
        offloaded, te_offloaded: share of the block weights that wait in RAM, 0 to 1.
        te_share: what te_offloaded is as soon as layers are offloaded.
        offloads_activations: what is kept between blocks waits in RAM.
        low_vram: large samples are decoded in tiles.
        save_width: bytes of a saved weight.
        assistant_parameters: weights of a frozen LoRA that is at work while training.
    """

    size: ModelSize
    work: Workload
    device: Device
    width: int = 2
    is_bf16: bool = True
    vae_width: int = 2
    te_width: int = 2
    qtype: str | None = None
    te_qtype: str | None = None
    te_follows: bool = True
    lora_rank: int | None = 16
    blocks_only: bool = True
    lora_sides: tuple[int, ...] | None = None
    trained_width: int = 4
    spare_width: int = 0
    optimizer: str = "adamw"
    keeps_average: bool = False
    batch_size: int = 1
    accumulation: int = 1
    is_fused: bool = False
    recomputes: bool = True
    offloaded: float = 0.0
    te_offloaded: float = 0.0
    te_share: float = 1.0
    offloads_activations: bool = False
    low_vram: bool = False
    save_width: int = 2
    assistant_parameters: int = 0

    @property
    def is_mixed(self) -> bool:
        """Whether autocast is on."""
        return self.width < 4

    @property
    def accumulates(self) -> bool:
        """Whether gradients are summed over several batches."""
        return self.accumulation > 1

    @property
    def num_trained(self) -> int:
        """Weights that are trained."""
        transformer = self.size.transformer
        if self.lora_rank is None:
            return transformer.parameters
        return self.lora_rank * sum(self.sides)

    @property
    def sides(self) -> tuple[int, ...]:
        """`lora_sides`, or those of every layer that may carry a LoRA."""
        if self.lora_sides is not None:
            return self.lora_sides
        return self.size.transformer.lora_sides(blocks_only=self.blocks_only)


def inputs_of(
    process: TrainingProcessConfig,
    size: ModelSize,
    work: Workload,
    device: Device,
    *,
    assistant_parameters: int = 0,
    lora_sides: tuple[int, ...] | None = None,
) -> PlanInputs:
    """The inputs that a job's settings give; `assistant_parameters` and `lora_sides` as in `PlanInputs`."""
    model, train, network = process.model, process.train, process.network
    width = DTYPES[train.dtype].num_bytes
    weights = train.full_finetune_weights
    te_share = model.layer_offloading_text_encoder_percent
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
        te_qtype=model.qtype_te if model.quantize_te else None,
        te_follows="quantize_te" not in model.model_fields_set,
        lora_rank=network.linear if network else None,
        blocks_only=network is None or (network.transformer_only if lora_sides is None else not lora_sides[-1]),
        lora_sides=lora_sides,
        optimizer=train.optimizer,
        keeps_average=train.ema_config is not None and train.ema_config.use_ema,
        batch_size=train.batch_size,
        accumulation=train.gradient_accumulation,
        recomputes=train.gradient_checkpointing,
        low_vram=model.low_vram,
        save_width=DTYPES[process.save.dtype].num_bytes,
        offloaded=_share(model.layer_offloading_transformer_percent, is_on=model.layer_offloading),
        te_offloaded=_share(te_share, is_on=model.layer_offloading),
        te_share=1.0 if te_share == "auto" else te_share,
        offloads_activations=model.activation_offloading,
        trained_width=4 if weights == "fp32" else 2,
        spare_width=2 if weights == "bf16_split" else 0,
        is_fused=train.fused_backward_pass,
        assistant_parameters=assistant_parameters,
    )


def _share(value: float | Literal["auto"], *, is_on: bool) -> float:
    """`auto` begins at none; `toolkit.plan.auto` raises it to what is needed."""
    return 0.0 if value == "auto" or not is_on else value

"""The inputs of a memory plan: the settings of a job that affect memory, and the sizes of what it works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from toolkit.compute.choices import COMPUTES
from toolkit.model_size import ModelSize
from toolkit.optimizers.choices import optimizer_row

Device = Literal["cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Workload:
    """The largest inputs that go through a model, in pixels.

    Attributes:
        train_px: pixels of the largest example, including its references; 0 if nothing is trained.
        reference_px: pixels of the references of that example.
        encode_px: pixels of the largest picture that the VAE encodes before training; 0 without one.
        validate_px: pixels of the largest image that a validation round scores, with its references; 0 without one.
        validate_together: how often it is in one pass.
        sample_px: pixels of the largest sample with its references, as the transformer sees them; 0 without samples.
        decode_px: pixels of the largest sample.
        shown_px: pixels of the largest reference of a sample, which is encoded while the transformer is loaded.
        keeps_vae: whether the VAE stays loaded while training.
        passes: backward passes per batch, one after another.
        encodings: bytes of encoded captions and pictures that are kept in memory.
        view_parameters: number of weights of the largest vision encoder; 0 without one.
        view_numbers: numbers that the vision encoder holds while it encodes an image.
        score_parameters: number of weights of the image encoder that scores samples, or of its text side if that is
            larger; 0 if they are not scored.
        score_numbers: numbers that it holds while it encodes a sample.
    """

    train_px: int
    encode_px: int
    reference_px: int = 0
    validate_px: int = 0
    validate_together: int = 1
    sample_px: int = 0
    decode_px: int = 0
    shown_px: int = 0
    keeps_vae: bool = False
    passes: int = 1
    encodings: int = 0
    view_parameters: int = 0
    view_numbers: int = 0
    score_parameters: int = 0
    score_numbers: int = 0


@dataclass(frozen=True)
class KeptInBlock:
    """What a network keeps in a block more than a LoRA does, in bytes.

    Attributes:
        per_token: kept from forward to backward, per token.
        held: the same, whatever the number of tokens.
        passing: more (or, below 0, less) than that at the fullest moment of the backward pass, per token.
    """

    per_token: float = 0.0
    held: float = 0.0
    passing: float = 0.0


@dataclass(frozen=True)
class PlanInputs:
    """Everything that determines how much memory a run takes.

    Attributes:
        size: sizes of the model.
        work: sizes of what goes through the model.
        device: kind of device that the model runs on.
        width: bytes per number in computations; 4 means no autocast.
        is_bf16: whether computations are in bf16; only then can trained weights be kept in bf16.
        vae_width: bytes per number in the VAE.
        te_width: bytes of an unquantized weight of the text encoder.
        qtype: number format of the transformer's frozen weights; None if they are not quantized.
        compute: key of `COMPUTES` that frozen weights are multiplied in.
        te_qtype: number format of the text encoder's weights; None if they are not quantized.
        text_layer_parameters: number of weights of the transformer's layer that is loaded beside the text encoder.
        te_follows: whether `quantize` also decides if the text encoder is quantized.
        lora_rank: rank of the LoRA; None for a full fine-tune.
        blocks_only: whether only layers inside blocks carry a LoRA.
        lora_sides: inputs plus outputs of the layers that carry a LoRA, summed for each run of blocks, then for the
            layers outside blocks; None if every layer that can carry a LoRA does. Layers whose number of trained
            weights is not in proportion to the rank do not count.
        fixed_weights: trained weights of those layers, like `lora_sides`; empty if there are none. In a full fine-tune,
            the weights that its filters choose; empty if all are trained.
        kept: what the network keeps for the backward pass in one block of each kind, more than a LoRA does.
        trained_width: bytes of a trained weight and of its gradient.
        spare_width: extra bytes kept per trained weight, such as the low 16 bits of an fp32 weight split in two.
        optimizer: a key of `OPTIMIZERS`, or a class.
        keeps_average: whether users get a moving average of the trained weights.
        snapshots: number of further averages, from which others are made later.
        batch_size: number of examples per batch.
        accumulation: number of batches over which gradients are accumulated.
        is_fused: whether each weight is updated as soon as its gradient is computed, so that only one gradient at a
            time is alive.
        recomputes: whether activations inside blocks are recomputed (gradient checkpointing).
        backwards: who may make the backward pass of blocks that have one of their own; the plan allows for the worst.
        keeps: what blocks with a backward pass of their own keep where activations are recomputed. 0: their input only;
            1: also the attention's output; 2: all that they need. In between, some keep the one and some the other.
        offloaded: share of the transformer's block weights that is offloaded to RAM, 0 to 1.
        te_offloaded: share of the text encoder's layers that is offloaded to RAM, 0 to 1.
        te_share: the share of the text encoder to offload if offloading is turned on, 0 to 1.
        offloads_activations: whether activations kept between blocks are offloaded to RAM.
        low_vram: whether large samples are decoded in tiles.
        save_width: bytes of a saved weight.
        merges: whether the network is merged into the transformer's weights when they are saved.
        assistant_parameters: number of weights of a frozen LoRA that is active during training.
        adapter_parameters: number of weights of the adapters that are trained.
        preview: when the weights that samples are drawn on, if they are not those that are trained, are loaded beside
            them, with a copy of the network: in each `round` of samples, or for the whole `run`.
        sample_batch: the most samples that are drawn in one batch.
        adapter_in_blocks: how many of these belong to blocks, for each entry of the transformer's `blocks`.
        cards: memory in bytes of each of the cards that the transformer's blocks are split over; empty for one device.
        ranks: number of processes that train together.
        is_sharded: whether the transformer's weights, their gradients and optimizer state are spread over them.
        context_parallel: number of processes that share each sequence.
    """

    size: ModelSize
    work: Workload
    device: Device
    width: int = 2
    is_bf16: bool = True
    vae_width: int = 2
    te_width: int = 2
    qtype: str | None = None
    compute: str = "bf16"
    te_qtype: str | None = None
    text_layer_parameters: int = 0
    te_follows: bool = True
    lora_rank: int | None = 16
    blocks_only: bool = True
    lora_sides: tuple[int, ...] | None = None
    fixed_weights: tuple[int, ...] = ()
    kept: Mapping[str, KeptInBlock] = field(default_factory=dict)
    trained_width: int = 4
    spare_width: int = 0
    optimizer: str = "adamw"
    keeps_average: bool = False
    snapshots: int = 0
    batch_size: int = 1
    accumulation: int = 1
    is_fused: bool = False
    recomputes: bool = True
    backwards: tuple[Literal["own", "autograd"], ...] = ("autograd",)
    keeps: float = 0.0
    offloaded: float = 0.0
    te_offloaded: float = 0.0
    te_share: float = 1.0
    offloads_activations: bool = False
    low_vram: bool = False
    save_width: int = 2
    merges: bool = False
    assistant_parameters: int = 0
    adapter_parameters: int = 0
    sample_batch: int = 1
    preview: Literal["never", "round", "run"] = "never"
    adapter_in_blocks: tuple[int, ...] = ()
    cards: tuple[int, ...] = ()
    ranks: int = 1
    is_sharded: bool = False
    context_parallel: int = 1

    @property
    def backward_passes(self) -> tuple[Literal["own", "autograd"], ...]:
        """`backwards`, of a model whose blocks have a backward pass of their own."""
        has_own = any(block.own is not None for block in self.size.transformer.blocks)
        return self.backwards if has_own else ("autograd",)

    @property
    def trains(self) -> bool:
        """Whether anything is trained; if not, the run only draws."""
        return self.work.train_px > 0

    @property
    def shards(self) -> int:
        """Number of processes that each weight is spread over."""
        return self.ranks if self.is_sharded else 1

    @property
    def is_filtered(self) -> bool:
        """Whether some of the transformer's weights stay as they are in a full fine-tune."""
        return self.lora_rank is None and bool(self.fixed_weights)

    @property
    def num_held(self) -> int:
        """Number of trained weights that a process keeps, updates and saves. Adapters are whole on each."""
        return self.adapter_parameters + -(-(self.num_trained - self.adapter_parameters) // self.shards)

    @property
    def num_averages(self) -> int:
        """Number of averages of the trained weights that are kept in memory."""
        return self.keeps_average + self.snapshots

    @property
    def set_aside_bytes(self) -> int:
        """Bytes of the trained weights that are kept while the model holds an average of them."""
        has_average = self.keeps_average or optimizer_row(self.optimizer).keeps_average
        return self.trained_width * self.num_held if has_average else 0

    @property
    def dequantizes(self) -> bool:
        """Whether a layer's weight is dequantized while it is used."""
        return self.qtype is not None and not COMPUTES[self.compute].is_8_bit

    @property
    def is_mixed(self) -> bool:
        """Whether autocast is on."""
        return self.width < 4

    @property
    def accumulates(self) -> bool:
        """Whether gradients are summed over several backward passes."""
        return self.accumulation > 1 or self.work.passes > 1

    @property
    def num_trained(self) -> int:
        """Number of trained weights."""
        transformer = self.size.transformer
        if self.lora_rank is None:
            chosen = sum(self.fixed_weights) if self.fixed_weights else transformer.parameters
            return chosen + self.adapter_parameters
        return self.lora_rank * sum(self.sides) + sum(self.fixed_weights) + self.adapter_parameters

    @property
    def sides(self) -> tuple[int, ...]:
        """`lora_sides`, or the value for a LoRA on every layer that can carry one."""
        if self.lora_sides is not None:
            return self.lora_sides
        return self.size.transformer.lora_sides(blocks_only=self.blocks_only)

"""The sizes of a model's parts as plain data, so that the memory plan need not read weights."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bytes:
    """A number of bytes under autocast (where norms are computed in fp32) and in plain fp32."""

    mixed: float
    fp32: float

    def at(self, *, is_mixed: bool) -> float:
        """`mixed` or `fp32`."""
        return self.mixed if is_mixed else self.fp32


@dataclass(frozen=True)
class OwnBackward:
    """Activations of a block whose backward pass is written by hand, counted as those of `BlockSize`.

    Attributes:
        kept: what the block keeps for backward if it recomputes nothing.
        recomputed: what the block keeps for backward if it recomputes its wide activations.
        working: peak of its backward pass, besides what it has kept; its forward pass has less.
        product: what is alive during the largest product of its backward pass, besides what it has kept.
    """

    kept: Bytes
    recomputed: Bytes
    working: Bytes
    product: Bytes


@dataclass(frozen=True)
class BlockSize:
    """A sequence of identical transformer blocks. Activations are counted per token and channel of `hidden_size`.

    Attributes:
        name: name of the list of blocks in the model.
        count: number of blocks.
        linears: (inputs, outputs) of each linear layer, in the order of the model's LoRA targets; layers that a LoRA
            treats as one fused layer count as one. They are quantized, and each may carry a LoRA.
        fused: how many layers of the loaded model each layer consists of; empty: one each.
        shares: share of the tokens that each of them sees; empty: all.
        other_parameters: number of weights in norms and biases, which are never quantized.
        saved: activations that a frozen block keeps for its backward pass without gradient checkpointing.
        working: peak of activations while a block is recomputed and differentiated.
        forward: peak of activations in the forward pass of a block that keeps nothing.
        modulation_parameters: number of weights in the block's own modulation layer, which is the first to be used and
            the last to get gradients.
        own: activations with a backward pass of its own, which a LoRA on a frozen block has; None if there is none.
    """

    name: str
    count: int
    linears: tuple[tuple[int, int], ...]
    saved: Bytes
    working: Bytes
    forward: Bytes
    other_parameters: int = 0
    modulation_parameters: int = 0
    fused: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    own: OwnBackward | None = field(default=None, compare=False)  # two models of one size may differ in it

    @property
    def linear_parameters(self) -> int:
        """Weights in the linear layers of one block."""
        return sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def parameters(self) -> int:
        """All weights of one block."""
        return self.linear_parameters + self.other_parameters


@dataclass(frozen=True)
class TransformerSize:
    """The size of a transformer.

    Attributes:
        hidden_size: channels of the residual stream.
        px_per_token: pixels that one image token stands for.
        blocks: sequences of identical blocks, in the order of the forward pass.
        outer_linears: (inputs, outputs) of the layers outside the blocks that may carry a LoRA, in the order of the
            model's LoRA targets.
        outer_parameters: number of weights outside the blocks.
        outer_modulation: number of those weights that are in modulation layers shared by all blocks.
        outer: activations outside the blocks that are kept for the backward pass; bytes per token and channel.
        trained: additional activations that each block keeps when all layers are trained, or when layers outside the
            blocks carry a LoRA.
    """

    hidden_size: int
    px_per_token: int
    blocks: tuple[BlockSize, ...]
    outer_linears: tuple[tuple[int, int], ...]
    outer_parameters: int
    outer_modulation: int
    outer: Bytes
    trained: Bytes

    @property
    def block_parameters(self) -> int:
        """Weights in linear layers of blocks: those that are quantized and offloaded."""
        return sum(block.count * block.linear_parameters for block in self.blocks)

    @property
    def parameters(self) -> int:
        """All weights."""
        return sum(block.count * block.parameters for block in self.blocks) + self.outer_parameters

    @property
    def largest_linear(self) -> int:
        """Weights of the largest layer that is quantized."""
        return max(inputs * outputs for block in self.blocks for inputs, outputs in block.linears)

    @property
    def widest(self) -> int:
        """Inputs or outputs of the widest layer of a block."""
        return max(width for block in self.blocks for linear in block.linears for width in linear)

    @property
    def largest_block(self) -> int:
        """Weights in the linear layers of the largest block."""
        return max(block.linear_parameters for block in self.blocks)

    @property
    def lora_linears(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of every layer that may carry a LoRA: block by block, then the layers outside."""
        return [*(linear for block in self.blocks for linear in block.linears * block.count), *self.outer_linears]

    def lora_sides(self, *, blocks_only: bool) -> tuple[int, ...]:
        """Sum of inputs and outputs over all layers that may carry a LoRA: per entry of `blocks`, then outside them.

        A LoRA of rank r has r weights for each of these inputs and outputs.
        """
        sides = [block.count * sum(map(sum, block.linears)) for block in self.blocks]
        return (*sides, 0 if blocks_only else sum(map(sum, self.outer_linears)))

    def lora_parameters(self, rank: int, *, blocks_only: bool) -> int:
        """Weights of a LoRA on every layer that may carry one."""
        return rank * sum(self.lora_sides(blocks_only=blocks_only))


@dataclass(frozen=True)
class TextEncoderSize:
    """The size of the part of a text encoder that is loaded. All encoders of a model are loaded together.

    Attributes:
        num_layers: number of layers that are loaded.
        layer_parameters: number of weights in one layer, nearly all of them in linear layers.
        embedding_parameters: number of weights outside the layers, mostly the token embedding; never quantized.
        hidden_size: channels of the residual stream.
        inner_size: width of the widest layer.
        num_tokens: number of tokens a prompt is padded to.
        is_held_whole: whether the encoder is too small to be quantized or offloaded.
    """

    num_layers: int
    layer_parameters: int
    embedding_parameters: int
    hidden_size: int
    inner_size: int
    num_tokens: int
    is_held_whole: bool = False


@dataclass(frozen=True)
class VaeSize:
    """The size of a VAE.

    Attributes:
        parameters: number of weights.
        encode: peak memory per pixel while an image is encoded; `mixed` is bf16, without autocast.
        decode: peak memory per pixel while latents are decoded, likewise.
        latents: bytes of the latents per pixel of the image, in fp32.
    """

    parameters: int
    encode: Bytes
    decode: Bytes
    latents: float


PIXELS = VaeSize(0, encode=Bytes(36, 36), decode=Bytes(36, 36), latents=12)
"""In place of a VAE: three colours in fp32, and while they are rearranged, two more copies of them."""


@dataclass(frozen=True)
class ModelSize:
    """The sizes of all parts of a model."""

    transformer: TransformerSize
    text_encoders: tuple[TextEncoderSize, ...]
    vae: VaeSize

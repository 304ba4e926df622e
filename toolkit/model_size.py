"""The sizes of a model's parts as plain data: what a memory plan computes with instead of reading weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bytes:
    """A figure in bytes under autocast, where norms are computed in fp32, and in plain fp32."""

    mixed: float
    fp32: float

    def at(self, *, is_mixed: bool) -> float:
        """The one that counts."""
        return self.mixed if is_mixed else self.fp32


@dataclass(frozen=True)
class BlockSize:
    """A run of equal transformer blocks. Activations are counted per token and channel of `hidden_size`.

    Attributes:
        name: of the list of blocks.
        count: how many there are.
        linears: (inputs, outputs) of each linear layer, where several are fused for a LoRA as one, in the order of the
            model's LoRA targets. These are quantized, and each may carry a LoRA.
        other_parameters: norms and biases, which stay as they are.
        saved: kept of a block for its backward pass if nothing is recomputed and its weights are frozen.
        working: most that lives at once while a block is recomputed and differentiated.
        forward: most that lives at once in a block that keeps nothing.
        modulation_parameters: of the block's own modulation: the first to be used, and the last to have gradients.
    """

    name: str
    count: int
    linears: tuple[tuple[int, int], ...]
    saved: Bytes
    working: Bytes
    forward: Bytes
    other_parameters: int = 0
    modulation_parameters: int = 0

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
    """A transformer of blocks.

    Attributes:
        hidden_size: channels of the residual stream.
        px_per_token: pixels that one image token stands for.
        blocks: in the order of the forward pass.
        outer_linears: (inputs, outputs) of the layers outside the blocks that may carry a LoRA, in that order too.
        outer_parameters: all weights outside the blocks.
        outer_modulation: of them, those of layers that work on the time and are used by all blocks.
        outer: kept outside the blocks from the forward to the backward pass; bytes per token and channel.
        trained: kept more in each block when all layers are trained or a LoRA is on those outside the blocks.
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
        """(inputs, outputs) of every layer that may carry a LoRA, block by block, then those outside."""
        return [*(linear for block in self.blocks for linear in block.linears * block.count), *self.outer_linears]

    def lora_sides(self, *, blocks_only: bool) -> tuple[int, ...]:
        """Inputs plus outputs of all layers that may carry a LoRA: of each run of blocks, then of those outside.

        A LoRA of rank r has r weights for each.
        """
        sides = [block.count * sum(map(sum, block.linears)) for block in self.blocks]
        return (*sides, 0 if blocks_only else sum(map(sum, self.outer_linears)))

    def lora_parameters(self, rank: int, *, blocks_only: bool) -> int:
        """Weights of a LoRA on every layer that may carry one."""
        return rank * sum(self.lora_sides(blocks_only=blocks_only))


@dataclass(frozen=True)
class TextEncoderSize:
    """The part of a text encoder that is loaded. A model's encoders are loaded together.

    Attributes:
        num_layers: layers that are needed.
        layer_parameters: weights of one layer, nearly all in linear layers.
        embedding_parameters: weights of the token table and of what else is outside the layers; never quantized.
        hidden_size: channels.
        inner_size: width of the widest layer.
        num_tokens: length of a prompt.
        is_held_whole: it is too small to be quantized or offloaded.
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
    """A VAE.

    Attributes:
        parameters: all weights.
        encode: most that lives at once per pixel of a picture being encoded; `mixed` is bf16 without autocast.
        decode: the same for decoding, under autocast.
        latents: bytes of the encoded picture per pixel, in fp32.
    """

    parameters: int
    encode: Bytes
    decode: Bytes
    latents: float


@dataclass(frozen=True)
class ModelSize:
    """All parts of a model."""

    transformer: TransformerSize
    text_encoders: tuple[TextEncoderSize, ...]
    vae: VaeSize

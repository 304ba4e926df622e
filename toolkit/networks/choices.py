"""The kinds of network that a job can train: one row each, readable without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from toolkit.choice import Choice
from toolkit.networks import kept
from toolkit.networks.settings import LayerSettings, Shape, lokr_rank, lokr_split, oft_block


def _lora(shape: Shape, settings: LayerSettings) -> int:
    return settings.rank * (shape.inputs + shape.outputs)


def _lokr(shape: Shape, settings: LayerSettings) -> int:
    (o1, o2), (i1, i2) = (lokr_split(size, settings.factor) for size in (shape.outputs, shape.inputs))
    rank = lokr_rank(shape, settings)
    return o1 * i1 + (o2 * i2 if rank is None else rank * (o2 + i2))


def _oft(shape: Shape, settings: LayerSettings) -> int:
    return shape.outputs * (oft_block(shape, settings) - 1) // 2


@dataclass(frozen=True, kw_only=True)
class NetworkChoice(Choice):
    """A kind of network, whose target is a subclass of `Part`.

    Attributes:
        count: number of weights that it trains on a layer; a test holds it equal to what `Part` makes.
        is_proportional: whether that number is a multiple of the rank, so that a smaller rank saves memory in
            proportion.
        kept: what the kind keeps of a layer for its backward pass, see `toolkit.networks.kept`.
        label: name of the kind in messages.
        rank_is: meaning of `network.linear` for this kind; empty if it has none.
    """

    count: Callable[[Shape, LayerSettings], int]
    is_proportional: bool = False
    kept: Callable[..., kept.Kept] = kept.nothing
    label: str
    rank_is: str = "rank"


NETWORKS: dict[str, NetworkChoice] = {
    "lora": NetworkChoice(
        "toolkit.networks.kinds.lora:LoraPart",
        label="LoRA",
        summary="A product of two low-rank matrices, added to each layer's weight.",
        count=_lora,
        is_proportional=True,
    ),
    "lokr": NetworkChoice(
        "toolkit.networks.kinds.lokr:LokrPart",
        kept=kept.lokr,
        label="LoKr",
        summary="A Kronecker product of two small matrices, added to each layer's weight: full rank from few weights.",
        count=_lokr,
    ),
    "fullrank": NetworkChoice(
        "toolkit.networks.kinds.fullrank:FullPart",
        label="full change",
        summary="A full-rank update of each layer's weight: as large as the layers themselves.",
        count=lambda shape, _: shape.inputs * shape.outputs,
        rank_is="",
    ),
    "loha": NetworkChoice(
        "toolkit.networks.kinds.loha:LohaPart",
        kept=kept.loha,
        label="LoHa",
        summary="The elementwise product of two low-rank matrices, added to each layer's weight.",
        count=lambda shape, settings: 2 * _lora(shape, settings),
        is_proportional=True,
    ),
    "dora": NetworkChoice(
        "toolkit.networks.kinds.dora:DoraPart",
        kept=kept.dora,
        label="DoRA",
        summary="A LoRA that changes the direction of each weight column, plus a trained norm for each column.",
        count=lambda shape, settings: _lora(shape, settings) + shape.inputs,
    ),
    "oft": NetworkChoice(
        "toolkit.networks.kinds.oft:OftPart",
        kept=kept.oft,
        label="OFT",
        summary="Rotates each layer's outputs in blocks of `linear`, so the norms and angles of the rows are "
        "preserved.",
        count=_oft,
        rank_is="block size",
    ),
}

# Kinds that other programs have, in lower case, each with the reason why it is not here.
REFUSED_NETWORKS: dict[str, str] = {
    "locon": "it is for convolutions, which FLUX does not have; set `type: lora`",
    "lycoris": "it covers several kinds; name one: lokr, loha, dora or lora",
    "lorm": "training it does not work in ai-toolkit either; set `type: lora`",
    "vera": "no program that draws pictures reads it; set `type: lokr`, which is as small",
    "boft": "no program that draws pictures reads it; set `type: oft`",
    "hra": "no program that draws pictures reads it, and it takes ten times the time; set `type: oft`",
    "randlora": "no program that draws pictures reads it; set `type: lora`",
    "fourierft": "no program that draws pictures reads it; set `type: lokr`, which is as small",
    "pissa": "it changes the frozen weights at the start, which may be quantized here; set `type: lora`",
    "olora": "it changes the frozen weights at the start, which may be quantized here; set `type: lora`",
    "tlora": "its rank depends on the noise level, but not in programs that draw pictures; set `type: lora`",
}

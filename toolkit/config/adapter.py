"""`adapter`: a small trained part beside the frozen model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from toolkit.adapters.choices import ADAPTERS
from toolkit.choice import ChoiceOf
from toolkit.config.compat.adapters import REFUSED_TYPES
from toolkit.config.network import NetworkConfig
from toolkit.config.paths import IMAGE_EXTENSIONS, ExistingFile, ExistingPath, HubIdOrPath
from toolkit.config.remarks import KeyContext, OnlyWith
from toolkit.section import Harmless, Section, Shown

ClipLayer = Literal["last_hidden_state", "penultimate_hidden_states", "image_embeds"]


def _as_list(value: Any) -> Any:
    """A text may name several paths, with commas between them, unless it is the name of one file."""
    if isinstance(value, str) and not Path(value).expanduser().exists():
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, str | Path) else value


def _images_in(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return [path for path in files if path.suffix.lower() in IMAGE_EXTENSIONS]


def _must_have_images(path: Path, info: ValidationInfo) -> Path:
    if info.context is not None and path.is_dir() and not _images_in(path):
        raise ValueError(f'the folder "{path}" contains no images')
    return path


def only_of(*types: str) -> OnlyWith:
    """Annotation of a key that only adapters of these types read; ai-toolkit's files write it for all of them."""

    def is_used(context: KeyContext) -> bool:
        return context.section.type in types

    return OnlyWith(f"by `type: {'` and `'.join(types)}`", is_used, is_switched=True)


def _reads_view(context: KeyContext) -> bool:
    return context.section.choice.reads == "view"


_VIEW = OnlyWith("by adapters that read images through a vision encoder", _reads_view)
_WITH_MASK = OnlyWith(
    "by `type: control_lora` with `has_inpainting_input`",
    lambda context: context.section.type == "control_lora" and context.section.has_inpainting_input,
)
_DROPS = OnlyWith(
    "by adapters that read images, with a `network` beside them: without the image, nothing else is trained",
    lambda context: _reads_view(context) and context.trains_network,
)
_Images = Annotated[ExistingPath, AfterValidator(_must_have_images)]
TestImages = Annotated[tuple[_Images, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]


class AdapterConfig(Section):
    """`adapter`: one adapter; several are a list."""

    type: Annotated[str, ChoiceOf(ADAPTERS, refused=REFUSED_TYPES)] = Field(description="Kind of adapter.")
    name_or_path: Annotated[ExistingFile | None, Shown(widget="file")] = Field(
        None, description="Start from the weights of this adapter file."
    )
    image_encoder_path: Annotated[HubIdOrPath | None, _VIEW] = Field(
        None, description="Vision encoder: a local folder, or `owner/name` on the hub."
    )
    image_encoder_arch: Annotated[
        Literal["auto", "clip", "siglip", "siglip2", "dinov2", "dinov3"],
        _VIEW,
        Shown(label="Kind of vision encoder", level="expert"),
    ] = Field("auto", description="Kind of the vision encoder; auto: from its config.json.")
    clip_layer: Annotated[ClipLayer | None, _VIEW, Shown(level="expert")] = Field(
        None,
        description="Which output of the vision encoder is used. Unset: penultimate_hidden_states for `ip+`, "
        "image_embeds for `ip`, last_hidden_state for the others.",
    )
    num_tokens: Annotated[int | None, only_of("ip", "ip+", "vision_direct")] = Field(
        None, ge=1, le=4096, description="Number of tokens per image. Unset: 4 for `ip`, 16 for `ip+`, all for others."
    )
    positions: Annotated[Literal["none", "grid"], only_of("vision_direct")] = Field(
        "none",
        description="Positions of the image's tokens in attention. grid: each patch has its own position on a grid "
        "that covers the image, so that position counts more than content. none: no positions.",
    )
    blocks: Annotated[Literal["all", "double"], only_of("ip", "ip+", "vision_direct")] = Field(
        "all", description="Blocks with the adapter: all, or double, those with separate weights for prompt and image."
    )
    image_dropout_rate: Annotated[float, _DROPS] = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of batches in which only the network is trained, without the image.",
    )
    test_img_path: Harmless[Annotated[TestImages, _VIEW, Shown(label="Images for samples", widget="file")]] = Field(
        (),
        description="Images for samples without `ctrl_img`, used one after another: a file, a folder, or a list of "
        "them.",
    )
    num_control_images: Annotated[int, only_of("control_lora")] = Field(
        1,
        ge=1,
        le=10,
        description="Control pictures of each image: the first folders of its dataset's `control_path`. With "
        "`has_inpainting_input`, the picture to inpaint is one of them and comes first.",
    )
    has_inpainting_input: Annotated[bool, only_of("control_lora")] = Field(
        False,
        description="The first control is a picture with a mask, from `datasets[].inpaint_path`: its opaque parts are "
        "kept, its transparent parts are to be painted.",
    )
    control_image_dropout: Annotated[float, only_of("control_lora")] = Field(
        0.0, ge=0, le=1, description="Share of examples trained without control pictures, as with the adapter off."
    )
    invert_inpaint_mask_chance: Annotated[float, _WITH_MASK] = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of examples trained with keeping and painting swapped. The files must have colours in "
        "their transparent parts.",
    )
    subpixel_downscale_factor: Annotated[Literal[8, 16], only_of("subpixel")] = Field(
        8,
        description="Side, in pixels, of the square that becomes the channels of one cell; a token has 2 x 2 cells. "
        "With 16 there are a quarter as many tokens, and the sides of images are multiples of 32 pixels.",
    )
    lora_config: Annotated[
        NetworkConfig | None,
        only_of("control_lora", "subpixel"),
        Shown(label="LoRA beside the adapter", level="expert"),
    ] = Field(
        None, description="The LoRA that is trained with the adapter. Same keys as `network`, which it can replace."
    )

    @property
    def choice(self) -> Any:
        """The row of `ADAPTERS`."""
        return ADAPTERS[self.type]

    @property
    def tokens(self) -> Any:
        """`num_tokens`, or the default of the kind of adapter; None: as many as the encoder has."""
        return self.choice.num_tokens if self.num_tokens is None else self.num_tokens

    @property
    def test_images(self) -> tuple[Path, ...]:
        """The images of `test_img_path`; those of a folder in the order of their names."""
        return tuple(image for path in self.test_img_path for image in (_images_in(path) if path.is_dir() else [path]))

    @property
    def layer(self) -> ClipLayer:
        """`clip_layer`, or its default."""
        if self.clip_layer is not None:
            return self.clip_layer
        defaults: dict[str, ClipLayer] = {"ip": "image_embeds", "ip+": "penultimate_hidden_states"}
        return defaults.get(self.type, "last_hidden_state")

    @property
    def num_control_folders(self) -> int:
        """How many folders of a dataset's `control_path` are its controls; the others hold references."""
        return self.num_control_images - self.has_inpainting_input if self.choice.reads == "control" else 0

    @model_validator(mode="after")
    def _only_patches_have_places(self) -> AdapterConfig:
        if self.positions == "grid" and self.num_tokens is not None:
            raise ValueError(
                "`positions: grid` gives each of the encoder's patches a position, and `num_tokens` averages the "
                "patches: keep one"
            )
        if self.positions == "grid" and self.layer == "image_embeds":
            raise ValueError(
                "`positions: grid` gives patches positions, and `clip_layer: image_embeds` has no patches: keep one"
            )
        return self

    @model_validator(mode="after")
    def _views_need_an_encoder(self) -> AdapterConfig:
        if self.choice.reads == "view" and self.image_encoder_path is None:
            raise ValueError(
                f"`type: {self.type}` reads images through a vision encoder: set `image_encoder_path` to its folder, "
                "such as that of google/siglip2-so400m-patch14-384"
            )
        return self


def _as_entries(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


Adapters = Annotated[
    tuple[AdapterConfig, ...],
    BeforeValidator(_as_entries, json_schema_input_type=AdapterConfig | list[AdapterConfig]),
]
"""One adapter, or a list of them."""


def clash_of(adapters: Sequence[AdapterConfig]) -> str | None:
    """What is wrong with adapters that change the same layer; None if none do."""
    kinds = [adapter.type for adapter in adapters if adapter.choice.reads == "control"]
    if len(kinds) > 1:
        return f"`adapter` has {len(kinds)} times `{kinds[0]}`: give one `num_control_images` instead"
    kinds += [adapter.type for adapter in adapters if adapter.choice.is_in_pixels]
    if len(kinds) > 1:
        return f"`adapter` has `{kinds[0]}` and `{kinds[1]}`, which change the same layer: keep one"
    return None

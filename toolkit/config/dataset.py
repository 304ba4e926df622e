"""`datasets`: folders of images with captions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from toolkit.config.datasets.use import DatasetUse
from toolkit.config.paths import ExistingFolder
from toolkit.config.remarks import KeyContext, Notice, OnlyWith
from toolkit.objectives.choices import OBJECTIVES
from toolkit.section import Harmless, Shown


def _as_list(value: Any) -> Any:
    if value == "":
        return []
    return [value] if isinstance(value, int | float | str | Path) and not isinstance(value, bool) else value


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


SizePx = Annotated[int, Field(ge=16, le=8192)]
Channel = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Channel, Channel, Channel]
Sizes = Annotated[
    tuple[SizePx, ...], Field(min_length=1), BeforeValidator(_as_list, json_schema_input_type=SizePx | list[SizePx])
]
Folder = Annotated[ExistingFolder | None, BeforeValidator(_none_if_empty)]
Folders = Annotated[tuple[ExistingFolder, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
MAX_CONTROLS = 10
_WITH_MASK = OnlyWith(
    "by an adapter with `has_inpainting_input`",
    lambda context: any(adapter.has_inpainting_input for adapter in context.process.adapter),
)
_WITH_VIEWS = OnlyWith(
    "with an adapter that reads images through a vision encoder",
    lambda context: any(adapter.choice.reads == "view" for adapter in context.process.adapter),
)
_WITH_REFERENCES = OnlyWith(
    "with `control_path`", lambda context: bool(context.section.control_folders or context.section.inpaint_path)
)


_MASKED = OnlyWith(
    "with `mask_path` or `alpha_mask`",
    # ai-toolkit's form writes 0.1 whether or not there is a mask
    lambda context: context.section.has_masks or context.value == 0.1,
    is_switched=True,
)


def _has_duplicates(context: KeyContext) -> str | None:
    if len(set(context.value)) == len(context.value):
        return None
    return "a size is listed more than once, so that each image is trained on several equal copies. List it once"


def _not_cached(context: KeyContext) -> str | None:
    if context.section.is_drawn:
        return None
    what = "`random_crop`, `random_scale` and `color_jitter` encode an image at each use"
    return f"`false` has no effect: each image is encoded once anyway. Only {what}"


class DatasetConfig(DatasetUse):
    """One entry of `datasets`: a folder of images (jpg, png, webp, avif, bmp, tiff) with captions."""

    aliases: ClassVar[Mapping[str, str]] = {"dataset_path": "folder_path", "caption_type": "caption_ext"}

    resolution: Annotated[Sizes, Notice(_has_duplicates), Shown(level="basic", unit="px")] = Field(
        (1024,),
        description="Training sizes: each image is scaled to an area of size x size. A list trains at every size.",
    )
    num_repeats: Annotated[int, Shown(label="Repeats")] = Field(
        1, ge=1, description="How often each image is used per epoch."
    )
    flip_x: Annotated[bool, Shown(label="Mirror left to right")] = Field(
        False, description="Add a horizontally mirrored copy of each image."
    )
    flip_y: Annotated[bool, Shown(label="Mirror top to bottom")] = Field(
        False, description="Add a vertically mirrored copy of each image."
    )
    random_crop: bool = Field(False, description="Crop at a random position instead of the centre.")
    cache_latents: Harmless[Annotated[bool, Notice(_not_cached)]] = Field(
        True, description="Encode each image once and keep its latents; this always happens."
    )
    cache_latents_to_disk: Harmless[
        Annotated[
            bool,
            OnlyWith(
                "without `random_crop`, `random_scale` and `color_jitter`, which change the pixels each time, or for "
                "reference images",
                lambda context: not context.section.is_drawn or bool(context.section.control_folders),
            ),
            Shown(label="Cache latents on disk"),
        ]
    ] = Field(False, description="Keep the latents on disk for later runs.")
    cache_text_embeddings: Annotated[Harmless[bool], Shown(label="Cache captions on disk")] = Field(
        False, description="Keep encoded captions on disk for later runs."
    )
    is_reg: Annotated[bool, Shown(label="Regularisation images")] = Field(
        False,
        description="Regularisation images: every second step (or `share_of_steps` of all steps) trains on them; "
        "their loss is scaled by `reg_weight`.",
    )
    validation: Annotated[bool, Shown(label="Only for validation")] = Field(
        False, description="Do not train on these images: they are the held-out images for `train.validation_config`."
    )
    prior_reg: Annotated[bool, Shown(label="Keep as in the base model")] = Field(
        False,
        description="Train these images towards the base model's own predictions, so that the model keeps drawing "
        "such images as before. Needs a network; one more pass per step.",
    )
    diff_output_preservation: bool | None = Field(
        None, description="`train.diff_output_preservation` for this dataset. Unset: the value there."
    )
    diff_output_preservation_class: Annotated[
        str | None,
        OnlyWith(
            "with `diff_output_preservation: true`, here or in `train`",
            lambda context: context.process.preserves_class(context.section),
        ),
    ] = Field(None, description="`train.diff_output_preservation_class` for this dataset. Unset: the value there.")
    mask_path: Annotated[Folder, Shown(label="Mask folder", widget="folder")] = Field(
        None,
        description="Folder of masks with the same file names as the images: only white areas count in the loss. If "
        "it is the folder of the images itself, masks are next to them, as `x.mask.png` or `x-masklabel.png`.",
    )
    alpha_mask: Annotated[bool, Shown(label="Use transparency as the mask")] = Field(
        False, description="Only the opaque parts of an image count in the loss."
    )
    invert_mask: Annotated[bool, _MASKED] = Field(False, description="Black or transparent areas count instead.")
    mask_min_value: Annotated[float, _MASKED, Shown(label="Weight outside masks", level="expert")] = Field(
        0.0, ge=0, lt=1, description="Weight in the loss of the rest of the image."
    )
    unconditional_path: Annotated[
        Folder,
        OnlyWith(
            "by `objective: image_slider`", lambda context: OBJECTIVES[context.process.train.objective].reads_pairs
        ),
        Shown(label="Counterpart folder", level="expert", widget="folder"),
    ] = Field(
        None, description="Folder of each image's counterpart at the other end of a slider, with the same file names."
    )
    loss_multiplier: Annotated[float, Shown(label="Loss weight")] = Field(
        1.0, ge=0, description="Weight of this dataset in the loss."
    )
    background_color: Color = Field((255, 255, 255), description="RGB colour behind transparent images.")
    control_path: Annotated[
        Folders,
        OnlyWith(
            "without `control_path_1` and so on, which replace it, as in ai-toolkit",
            lambda context: context.section.control_folders == context.section.control_path,
        ),
        Shown(label="Reference folders", needs="references", widget="folder"),
    ] = Field(
        (),
        max_length=MAX_CONTROLS,
        description="Folders of reference images, such as images before an edit, with the same file names as the "
        "images.",
    )
    control_path_1: Folder = Field(None, description="Folder of each image's reference 1.")
    control_path_2: Folder = Field(None, description="Folder of each image's reference 2.")
    control_path_3: Folder = Field(None, description="Folder of each image's reference 3.")
    control_path_4: Folder = Field(None, description="Folder of each image's reference 4.")
    control_path_5: Folder = Field(None, description="Folder of each image's reference 5.")
    control_path_6: Folder = Field(None, description="Folder of each image's reference 6.")
    control_path_7: Folder = Field(None, description="Folder of each image's reference 7.")
    control_path_8: Folder = Field(None, description="Folder of each image's reference 8.")
    control_path_9: Folder = Field(None, description="Folder of each image's reference 9.")
    control_path_10: Folder = Field(None, description="Folder of each image's reference 10.")
    control_transparent_color: Annotated[Color, _WITH_REFERENCES, Shown(label="Reference background color")] = Field(
        (0, 0, 0), description="RGB colour behind transparent reference images."
    )
    control_dropout_rate: Annotated[float, _WITH_REFERENCES, Shown(label="Reference dropout")] = Field(
        0.0, ge=0, le=1, description="Share of batches trained without their reference images."
    )
    allow_missing_control: Annotated[bool, _WITH_REFERENCES, Shown(label="Allow missing references")] = Field(
        False,
        description="If an image lacks a reference, train it with those that it has, instead of refusing to start.",
    )

    inpaint_path: Annotated[Folder, _WITH_MASK] = Field(
        None,
        description="Folder of copies of the images with transparency: opaque parts are kept, transparent parts are "
        "to be painted.",
    )
    clip_image_path: Annotated[Folder, _WITH_VIEWS, Shown(level="expert", widget="folder")] = Field(
        None,
        description="Folder of the images that adapters read, with the same file names as the training images; may be "
        "the same folder.",
    )
    clip_image_from_same_folder: Annotated[bool, _WITH_VIEWS, Shown(level="expert")] = Field(
        False, description="Adapters read the training image itself."
    )
    cache_clip_vision_to_disk: Harmless[Annotated[bool, _WITH_VIEWS, Shown(level="expert")]] = Field(
        False, description="Keep the vision encoder's outputs on disk for later runs."
    )

    @property
    def has_masks(self) -> bool:
        """Whether masks decide which parts of the images count."""
        return self.alpha_mask or self.mask_path is not None

    @property
    def has_sidecar_masks(self) -> bool:
        """Whether the masks are beside the images."""
        return self.mask_path is not None and self.mask_path.resolve() == self.folder_path.resolve()

    @property
    def sees_itself(self) -> bool:
        """Whether adapters read the training images themselves."""
        folder = self.clip_image_path
        is_same = folder is not None and folder.resolve() == self.folder_path.resolve()
        return self.clip_image_from_same_folder or is_same

    @model_validator(mode="after")
    def _trains_or_validates(self) -> DatasetConfig:
        for key in ("is_reg", "prior_reg", "share_of_steps", "batch_size"):
            if self.validation and getattr(self, key) not in (False, None):
                raise ValueError(f"`validation: true` images are not trained on, so `{key}` does not apply: remove it")
        return self

    @model_validator(mode="after")
    def _has_one_mask(self) -> DatasetConfig:
        if self.alpha_mask and self.mask_path is not None:
            raise ValueError("`mask_path` and `alpha_mask` are two masks for each image: keep one of them")
        return self

    @property
    def control_folders(self) -> tuple[Path, ...]:
        """Folders of the first, second, ... reference of each image; numbered keys replace the list."""
        numbered = [getattr(self, f"control_path_{number}") for number in range(1, MAX_CONTROLS + 1)]
        return tuple(folder for folder in numbered if folder is not None) or self.control_path

"""A loaded vision encoder: makes features of one image at a time, in fp32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from toolkit.encode.vision import VisionEncoder, processor_settings
from toolkit.encode.vision_kinds import KINDS, VisionSize
from toolkit.errors import UserError

_SETTINGS = ("image_mean", "image_std", "resample", "rescale_factor", "do_normalize", "do_rescale", "do_center_crop")


class VisionModel:
    """The model and its image processor, on a device.

    Args:
        encoder: which encoder this is.
        size: the encoder's sizes, from its configuration.
        model: the model of the library.
        processor: the image processor of the library.
        device: where the model is.
    """

    def __init__(
        self, encoder: VisionEncoder, size: VisionSize, *, model: Any, processor: Any, device: torch.device
    ) -> None:
        self.encoder = encoder
        self.size = size
        self.model = model
        self.processor = processor
        self.device = device

    @torch.no_grad()
    def features(self, image: Image.Image) -> Tensor:
        """The features of an RGB image, [M, E], fp16, on the CPU."""
        pixels = self.processor(images=image, return_tensors="pt")["pixel_values"].to(self.device)  # [1, 3, H, W]
        layer = self.encoder.layer
        wants_all = layer == "penultimate_hidden_states"
        output = self.model(**self._inputs(pixels), output_hidden_states=wants_all)
        if layer == "image_embeds":
            embeds = output.image_embeds if "image_embeds" in output else output.pooler_output
            found = embeds.unsqueeze(1)  # [1, 1, E]
        else:
            found = output.hidden_states[-2] if wants_all else output.last_hidden_state
            found = found[:, self.size.num_dropped :]
        return found[0].to("cpu", torch.float16)

    def embeds(self, images: Iterable[Image.Image]) -> Tensor:
        """The normalised embedding of each RGB image, [N, E], fp32, on the CPU; for a layer of one feature an image."""
        found = [normalize(self.features(image)[0].float(), dim=0) for image in images]
        return torch.stack(found) if found else torch.zeros(0, 0)

    def _inputs(self, pixels: Tensor) -> dict[str, Tensor]:
        if self.size.kind != "siglip2":
            return {"pixel_values": pixels}
        side, patch = self.size.image_px // self.size.patch_px, self.size.patch_px
        patches = pixels[0].reshape(3, side, patch, side, patch).permute(1, 3, 2, 4, 0)  # [rows, columns, y, x, 3]
        return {
            "pixel_values": patches.reshape(1, side * side, -1),
            "pixel_attention_mask": torch.ones((1, side * side), dtype=torch.int64, device=self.device),
            "spatial_shapes": torch.tensor([[side, side]], device=self.device),
        }


def load_vision_model(encoder: VisionEncoder, device: torch.device) -> VisionModel:
    """Load an encoder, frozen and in eval mode.

    Raises:
        UserError: its files are missing or damaged, or hold something else.
    """
    import transformers  # takes a second, and is not needed while all views are cached

    files = encoder.files()
    size = encoder.size(files)
    kind = KINDS[size.kind]
    model = load_frozen(encoder, size, kind.embedding_model if encoder.layer == "image_embeds" else kind.model, device)
    assert files.folder is not None, "checked by `size`"
    settings = processor_settings(files.folder)
    options = {key: settings[key] for key in _SETTINGS if settings.get(key) is not None}
    square = {"height": size.image_px, "width": size.image_px}
    if size.kind == "clip":
        options |= {"size": {"shortest_edge": size.image_px}, "crop_size": square}
    elif size.kind == "dinov2":
        options |= {"size": {"shortest_edge": _shortest_px(settings, size)}, "crop_size": square}
        options["do_center_crop"] = True
    else:
        options["size"] = square
    processor = getattr(transformers, kind.processor)(**options)
    return VisionModel(encoder, size, model=model, processor=processor, device=device)


def load_frozen(encoder: VisionEncoder, size: VisionSize, name: str, device: torch.device) -> Any:
    """Load the class `name` of the library from an encoder's folder, in fp32, frozen and in eval mode.

    Raises:
        UserError: the files are missing or damaged, or hold something else.
    """
    import transformers

    files = encoder.files()
    try:
        with no_progress_bar(), _no_report():
            model, found = getattr(transformers, name).from_pretrained(
                files.folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # the exceptions that libraries raise for a damaged file have no common base
        raise UserError(
            f"{encoder.setting}: {files.folder} cannot be loaded as a {size.kind} encoder ({error}). Download it again."
        ) from error
    missing = sorted([*found["missing_keys"], *(str(key) for key in found["mismatched_keys"])])
    if missing:
        raise UserError(
            f"{encoder.setting}: the weights in {files.folder} do not match its config.json: {len(missing)} are "
            f"missing or of another shape, such as {missing[0]}. Download it again."
        )
    model.requires_grad_(requires_grad=False)
    return model.eval().to(device)


def _shortest_px(settings: Mapping[str, Any], size: VisionSize) -> int:
    """The shorter side that an image is scaled to before its middle is cut out."""
    asked = settings.get("size")
    edge = asked.get("shortest_edge") if isinstance(asked, Mapping) else asked
    return max(edge, size.image_px) if isinstance(edge, int) else size.image_px


@contextmanager
def _no_report() -> Iterator[None]:
    """Let transformers print no table of the weights that are not read, such as those of the other side."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """For the length of a `with` block, let transformers draw no bars: the trainer has its own lines."""
    from transformers.utils import logging

    is_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if is_shown:
            logging.enable_progress_bar()

"""A vision-language model of transformers that says what a picture shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import nn

from extensions_built_in.captioner.model_folder import SETTING
from extensions_built_in.captioner.processor import load_processor
from toolkit.config.captioning.settings import DEFAULT_PROMPT, CaptionConfig
from toolkit.data.image_files import DECODE_ERRORS, ImageError, open_image, read_image, room_for
from toolkit.data.images import to_rgb
from toolkit.dtypes import torch_dtype
from toolkit.encode.vision_model import no_progress_bar
from toolkit.errors import UserError
from toolkit.quantize.fill import quantize_layer

_BEHIND = (255, 255, 255)  # transparent pixels


class CaptionWriter:
    """The model and its processor, on a device. The same picture always gets the same caption.

    Args:
        model: of transformers, which generates text.
        processor: of transformers, for pictures and text.
        config: what the model is asked.
        device: where the model is.
    """

    def __init__(self, model: Any, processor: Any, config: CaptionConfig, device: torch.device) -> None:
        self.model = model
        self.processor = processor
        self.config = config
        self.device = device

    @torch.no_grad()
    def caption(self, image: Image.Image) -> str:
        """What the model says about an RGB picture, on one line; empty if it says nothing."""
        inputs = self._inputs(image).to(self.device)
        for name, tensor in inputs.items():
            if torch.is_tensor(tensor) and tensor.is_floating_point():
                inputs[name] = tensor.to(self.model.dtype)
        given = inputs.get("input_ids")
        tokens = self.model.generate(**inputs, max_new_tokens=self.config.max_new_tokens, do_sample=False, num_beams=1)
        if given is not None and self._is_chat and torch.equal(tokens[:, : given.shape[1]], given):
            tokens = tokens[:, given.shape[1] :]  # the question, which models without an encoder repeat
        text = self.processor.batch_decode(tokens, skip_special_tokens=True)[0]
        return " ".join(text.split())

    @property
    def _is_chat(self) -> bool:
        return bool(getattr(self.processor, "chat_template", None))

    def _inputs(self, image: Image.Image) -> Any:
        prompt = self.config.caption_prompt
        if not self._is_chat:
            asked = {} if prompt is None else {"text": prompt}
            return self.processor(images=image, return_tensors="pt", **asked)
        content = [{"type": "image"}, {"type": "text", "text": DEFAULT_PROMPT if prompt is None else prompt}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return self.processor(images=[image], text=[text], return_tensors="pt")


def load_writer(folder: Path, config: CaptionConfig, device: torch.device) -> CaptionWriter:
    """Load a model, frozen and in eval mode.

    Raises:
        UserError: its files are damaged, or it does not make text from pictures.
    """
    import transformers

    try:
        processor = load_processor(folder)
        with no_progress_bar():
            model, found = transformers.AutoModelForImageTextToText.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch_dtype(config.dtype),
                output_loading_info=True,
            )
    except Exception as error:  # the exceptions that libraries raise for a damaged file have no common base
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{SETTING}: {folder} cannot be loaded as a model that generates text from pictures ({first}). Download it "
            "again, or choose another one."
        ) from error
    missing = sorted([*found["missing_keys"], *(str(key) for key in found["mismatched_keys"])])
    if missing:
        raise UserError(
            f"{SETTING}: the weights in {folder} do not match its config.json: {len(missing)} are missing or of "
            f"another shape, such as {missing[0]}. Download it again, or choose a version made for transformers."
        )
    model.requires_grad_(requires_grad=False)
    if config.quantize:
        _quantize(model, config.qtype)
    return CaptionWriter(model.eval().to(device), processor, config, device)


def load_picture(path: Path, *, most_px: int) -> Image.Image:
    """A picture, upright, in RGB, at most so many pixels on its longer side.

    Raises:
        ImageError: it cannot be decoded.
    """
    data = read_image(path)
    image = open_image(data)
    try:
        with room_for(image.width * image.height):
            image = to_rgb(ImageOps.exif_transpose(image), _BEHIND, data)
            image.thumbnail((most_px, most_px), Image.Resampling.LANCZOS)
    except DECODE_ERRORS as error:
        raise ImageError(str(error)) from error
    return image


def _quantize(model: Any, qtype: str) -> None:
    """Store linear layers in fewer bits, but for those that share their weight, such as the one that chooses words."""
    owners: dict[int, int] = {}
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter):
            owners[id(weight)] = owners.get(id(weight), 0) + 1
    output = model.get_output_embeddings()
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Linear and layer is not output and owners[id(layer.weight)] == 1:
            quantize_layer(model, name, qtype)

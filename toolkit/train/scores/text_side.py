"""The text side of an image encoder: embeddings of prompts that can be compared with those of pictures."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from toolkit.encode.vision import VisionEncoder
from toolkit.encode.vision_kinds import KINDS
from toolkit.encode.vision_model import load_frozen
from toolkit.memory.host import release_memory
from toolkit.weights.text_folder import read_tokenizer


@torch.no_grad()
def embed_texts(encoder: VisionEncoder, texts: Iterable[str], device: torch.device) -> dict[str, Tensor]:
    """The normalised embedding of each text, [E], fp32, on the CPU. The model is loaded for it, and freed.

    Args:
        encoder: an encoder that has a text side.
        texts: the texts. SigLIP has learned from lower-case ones, so they are made so; what is too long is cut off.
        device: where the model runs.

    Raises:
        UserError: its files are missing or damaged.
    """
    files = encoder.files()
    size = encoder.size(files)
    assert files.folder is not None, "checked by `size`"
    tokenizer = read_tokenizer(files.folder, padding_side="right")
    model = load_frozen(encoder, size, KINDS[size.kind].text_model, device)
    found = {}
    for text in dict.fromkeys(texts):
        ids = tokenizer(
            text.lower(),
            padding="max_length",  # as in its training; it reads the last place
            truncation=True,
            max_length=model.config.max_position_embeddings,
            return_tensors="pt",
        )["input_ids"]
        found[text] = normalize(model(input_ids=ids.to(device)).pooler_output[0].float().cpu(), dim=0)  # [E]
    del model
    release_memory()
    return found

"""Tiny vision-language models with random weights, saved as transformers saves released ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

_WORDS = [
    "a",
    "red",
    "blue",
    "green",
    "picture",
    "of",
    "cat",
    "dog",
    "wall",
    "sky",
    "tree",
    "the",
    "with",
    "and",
    "on",
    "near",
]
_SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_ASKS = (
    "{% for m in messages %}USER: {% for c in m.content %}{% if c.type == 'image' %}IMAGE {% else %}{{ c.text }} "
    "{% endif %}{% endfor %}{% endfor %}ASSISTANT:"
)


@pytest.fixture(scope="session")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that follows no instructions."""
    import transformers

    folder = tmp_path_factory.mktemp("models") / "blip"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *_WORDS]
    tokenizer = transformers.BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    text = {"vocab_size": len(words), "encoder_hidden_size": 16, "max_position_embeddings": 64}
    special = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    config = transformers.BlipConfig(
        vision_config={**_SIZE, "image_size": 16, "patch_size": 8},
        text_config={**_SIZE, **text, **special},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    _save(transformers.BlipForConditionalGeneration, config, folder, seed=3)
    image_processor = transformers.BlipImageProcessorPil(size={"height": 16, "width": 16})
    transformers.BlipProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that is asked a question."""
    import transformers

    folder = tmp_path_factory.mktemp("models") / "llava"
    tokenizer = _tokenizer(["<image>"])
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**_SIZE, image_size=16, patch_size=8),
        text_config=transformers.LlamaConfig(**_SIZE, **_text(tokenizer), num_key_value_heads=2),
        image_token_id=4,
        vision_feature_layer=-1,
    )
    _save(transformers.LlavaForConditionalGeneration, config, folder)
    transformers.LlavaProcessor(
        transformers.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_ASKS.replace("IMAGE", "<image>"),
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose processor has a part for videos, in the older layout of its files."""
    import transformers

    folder = tmp_path_factory.mktemp("models") / "qwen"
    tokenizer = _tokenizer(["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"])
    rope = {"type": "mrope", "rope_type": "default", "mrope_section": [1, 1, 2]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16}
    config = transformers.Qwen2_5_VLConfig(
        text_config={**_SIZE, **_text(tokenizer), "num_key_value_heads": 2, "rope_scaling": rope},
        vision_config={**vision, "fullatt_block_indexes": [0], "patch_size": 4, "window_size": 16},
        image_token_id=4,
        video_token_id=5,
        vision_start_token_id=6,
        vision_end_token_id=7,
    )
    _save(transformers.Qwen2_5_VLForConditionalGeneration, config, folder)
    tokenizer.save_pretrained(folder)
    image = {"min_pixels": 64, "max_pixels": 4096, "patch_size": 4, "temporal_patch_size": 2, "merge_size": 2}
    names = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    norm = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(image | names | norm))
    template = _ASKS.replace("IMAGE", "<|vision_start|> <|image_pad|> <|vision_end|>")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures, the second with a caption."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, color in (("a.png", (255, 0, 0)), ("b.png", (0, 255, 0)), ("c.jpg", (10, 0, 255))):
        image = Image.new("RGB", (40, 30), color)
        image.paste((255, 255, 255), (0, 0, 12, 30))
        image.save(folder / name)
    (folder / "b.txt").write_text("mine", encoding="utf-8")
    return folder


def _tokenizer(special: list[str]) -> Any:
    import transformers

    words = ["<unk>", "<s>", "</s>", "<pad>", *special, "USER:", "ASSISTANT:", *_WORDS]
    words_alone = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    words_alone.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words_alone,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=special,
    )


def _text(tokenizer: Any) -> dict[str, int]:
    return {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}


def _save(kind: Any, config: Any, folder: Path, *, seed: int = 4) -> None:
    torch.manual_seed(seed)
    model = kind(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "embed" not in name:
                weight.mul_(20)  # as they are made they say the same of every picture
    model.save_pretrained(folder)

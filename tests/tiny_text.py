"""A tiny text encoder of FLUX.2 dev's kind for tests: Mistral 3 with vision tower, and its tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Mistral3Config, Mistral3ForConditionalGeneration, PreTrainedTokenizerFast

LAYERS = (1, 2, 3)
_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}]"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}[/{{ message['role'] }}]{% endfor %}"
)
_TEXT = {
    "model_type": "mistral",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4096,
    "sliding_window": None,
}
_VISION = {
    "model_type": "pixtral",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 8,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 16,
    "num_channels": 3,
}


def write_tiny_mistral(folder: Path) -> Path:
    """`folder` with `tokenizer` (byte-level, a chat template of dev's form) and `text_encoder` (five layers) in it."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    bpe.train_from_iterator([], trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        chat_template=_TEMPLATE,
        model_max_length=4096,
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    config = Mistral3Config(
        text_config={**_TEXT, "vocab_size": len(tokenizer)},
        vision_config=_VISION,
        image_token_index=8,
        vision_feature_layer=-1,
    )
    model = Mistral3ForConditionalGeneration(config)
    with torch.no_grad():  # a fresh model's padding is zero, a trained one's is not
        model.get_input_embeddings().weight.normal_(0, 0.5)
        for layer in model.model.language_model.layers:
            layer.input_layernorm.weight.uniform_(0.5, 1.5)
        model.model.language_model.norm.weight.uniform_(0.5, 1.5)
    model.save_pretrained(folder / "text_encoder")
    return folder

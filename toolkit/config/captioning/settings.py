"""`type: caption`: captions of pictures, written by a vision-language model and reviewed by people."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from toolkit.config.datasets.captions import with_dot
from toolkit.config.model import Qtype
from toolkit.config.paths import ExistingFolder, HubIdOrPath
from toolkit.config.process import ProcessConfig
from toolkit.dtypes import Dtype
from toolkit.section import Section, Shown

DEFAULT_PROMPT = (
    "Describe this picture in one or two plain sentences. Begin with what it shows, without an introduction."
)


class CaptionConfig(Section):
    """`caption`: which pictures, which model, and what it is asked."""

    path_to_caption: Annotated[ExistingFolder, Shown(widget="folder")] = Field(description="Folder of the pictures.")
    recursive: bool = Field(False, description="Include pictures in subfolders.")
    model_name_or_path: HubIdOrPath = Field(
        description="A vision-language model as transformers stores it: a folder, or a hub id such as "
        "Qwen/Qwen3-VL-4B-Instruct. A model that needs its own Python code is refused."
    )
    caption_prompt: str | None = Field(
        None,
        max_length=10_000,
        description="The instruction. Unset: a plain description is asked for. A model that follows no instructions, "
        "such as BLIP, continues this text; unset: it starts from nothing.",
    )
    max_new_tokens: int = Field(128, ge=1, le=4096, description="Maximum number of tokens in a caption.")
    max_res: Annotated[int, Shown(unit="px")] = Field(
        768, ge=16, le=8192, description="Pictures are scaled down to this many pixels on their longer side."
    )
    recaption: bool = Field(False, description="Also caption pictures that already have a caption.")
    caption_extension: Annotated[str, AfterValidator(with_dot)] = Field(
        ".txt", min_length=1, description="Extension of the caption files, with or without the dot."
    )
    prefix: str = Field(
        "", max_length=1000, description="Text before each caption, such as the trigger word: `[trigger], `."
    )
    accept: bool = Field(
        False,
        description="Write the captions next to the pictures at the end. If false, they are only proposed, in "
        "`proposals.jsonl` in the output folder, for review; start the job again with true to write them.",
    )
    dtype: Dtype = Field("bf16", description="Precision of the computation.")
    quantize: bool = Field(False, description="Store the model's linear layers in fewer bits, see `qtype`.")
    qtype: Qtype = Field("int8", description="Number format of the quantized layers.")


class CaptionProcessConfig(ProcessConfig):
    """One entry of `config.process`: proposes captions for pictures."""

    caption: CaptionConfig = Field(description="What to caption, and with which model.")

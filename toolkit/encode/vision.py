"""Vision encoders by their files: what each makes of an image, and whether it can be used. No weights are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.adapters.view_shape import ViewShape
from toolkit.config import AdapterConfig, TrainingProcessConfig
from toolkit.config.paths import HUB_ID
from toolkit.encode.vision_kinds import KINDS, VisionSize, read_size
from toolkit.errors import UserError
from toolkit.files import sha256_json
from toolkit.json_files import read_json
from toolkit.weights.headers import read_shapes

if TYPE_CHECKING:  # the hub's library takes a fifth of a second to import, and most jobs have no vision encoder
    from toolkit.weights.layouts import ComponentFiles

COMPONENT = "image_encoder"  # its folder in a repository in diffusers layout
PROCESSOR = "preprocessor_config.json"
TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
_TOKENIZER_SETTINGS = "tokenizer_config.json"
_IN_PIECES = "SiglipTokenizer"  # of the first SigLIP; the library reads it with SentencePiece alone
# Numbers per patch and channel that are alive at once: hidden states, queries, keys, values, and the MLP.
_WORKING = 24
SCORE_WITH = "sample.score_with"
_TEXT = "text_model."
_OF_OTHERS = (_TEXT, "text_projection.", "logit_")


@dataclass(frozen=True)
class VisionEncoder:
    """A vision encoder, and the layer of it that is read.

    Attributes:
        source: local folder, or `owner/name` on the hub.
        arch: the encoder's kind according to the job, a value of `image_encoder_arch`.
        layer: which output of the encoder is used, a value of `clip_layer`.
        setting: key of the job file that names it, for messages.
    """

    source: str
    arch: str
    layer: str
    setting: str = field(default="adapter.image_encoder_path", compare=False)

    def files(self) -> ComponentFiles:
        """Its files, downloaded if they are on the hub.

        Raises:
            UserError: they are missing, incomplete or unreachable.
        """
        from toolkit.weights.layouts import find_component

        return find_component(self.source, COMPONENT, setting=self.setting)

    def local_files(self) -> ComponentFiles | None:
        """Like `files`, but offline; None if they would have to be downloaded.

        Raises:
            UserError: the source is neither a local path nor the name of a repository.
        """
        if Path(self.source).expanduser().exists() or not HUB_ID.fullmatch(self.source):
            return self.files()
        from toolkit.weights import hub
        from toolkit.weights.layouts import find_component

        cached = hub.cached_folder(self.source)
        try:
            return None if cached is None else find_component(str(cached), COMPONENT, setting=self.setting)
        except UserError:  # only some of the files are cached
            return None

    def check_reachable(self) -> None:
        """Check that `files` would find the files, without downloading anything.

        Raises:
            UserError: see `files`.
        """
        from toolkit.weights.layouts import reach_component

        reach_component(self.source, COMPONENT, setting=self.setting)

    def size(self, files: ComponentFiles) -> VisionSize:
        """What its configuration says.

        Raises:
            UserError: it is not that of a vision encoder of the kind that the job names, or is damaged.
        """
        if files.folder is None:
            raise UserError(f"{self.setting}: {files.path} is a single file. Give a folder with its config.json.")
        config = read_json(files.folder / "config.json")
        try:
            size = read_size(config, processor_settings(files.folder))
        except (ValueError, TypeError, KeyError, ZeroDivisionError, AttributeError, OverflowError) as error:
            raise UserError(
                f"{files.folder / 'config.json'}: the file is damaged ({error}). Download it again."
            ) from error
        if size is None:
            raise UserError(
                f"{self.setting}: {self.source} is not a supported vision encoder ({', '.join(KINDS)}): its "
                f"config.json says `model_type: {config.get('model_type')}`."
            )
        if self.arch not in ("auto", *KINDS[size.kind].spellings):
            raise UserError(
                f"adapter.image_encoder_arch: {self.source} is a {size.kind} encoder, not {self.arch}. Write "
                f"`{size.kind}`, or remove the key."
            )
        if self.layer == "image_embeds" and size.embedding_width is None and self.setting == SCORE_WITH:
            raise UserError(
                f"{SCORE_WITH}: {self.source} has no embedding of the whole image, so pictures cannot be compared. "
                "Choose another encoder."
            )
        if self.layer == "image_embeds" and size.embedding_width is None:
            raise UserError(
                f"adapter.clip_layer: {self.source} has no embedding of the whole image. Set `clip_layer: "
                "last_hidden_state`."
            )
        return size

    def fingerprint(self, files: ComponentFiles) -> str:
        """Hex digest that changes whenever the features change; part of cache keys."""
        from toolkit.weights.fingerprint import fingerprint

        return sha256_json([fingerprint(files), self.layer])[:32]

    def shape(self, files: ComponentFiles) -> ViewShape:
        """The features of an image.

        Raises:
            UserError: see `size`.
        """
        size = self.size(files)
        width = size.embedding_width if self.layer == "image_embeds" else size.width
        assert width is not None, "checked by `size`"
        return ViewShape(size.num_tokens(self.layer), width, self.fingerprint(files))


@dataclass(frozen=True)
class EncoderFacts:
    """What the files of an encoder tell.

    Attributes:
        shape: the features of an image.
        num_weights: number of weights of the vision encoder.
        working_numbers: upper estimate of how many numbers are held while an image is encoded.
        num_text_weights: number of weights of its text side; 0 if it has none that can be compared with images.
    """

    shape: ViewShape
    num_weights: int
    working_numbers: int
    num_text_weights: int = 0


@dataclass(frozen=True)
class ViewInput:
    """What one adapter of a job reads of each image.

    Attributes:
        index: position of the adapter in the job's list.
        encoder: the encoder that makes the features.
        dropout_rate: share of batches that are trained without the image.
    """

    index: int
    encoder: VisionEncoder
    dropout_rate: float


def view_inputs(adapters: Sequence[AdapterConfig]) -> tuple[ViewInput, ...]:
    """The inputs of those adapters that read images through a vision encoder."""
    return tuple(
        ViewInput(index, encoder_of(config), config.image_dropout_rate)
        for index, config in enumerate(adapters)
        if config.choice.reads == "view"
    )


def encoder_of(config: AdapterConfig) -> VisionEncoder:
    """The vision encoder of an adapter."""
    assert config.image_encoder_path is not None, "the section requires it"
    return VisionEncoder(config.image_encoder_path, config.image_encoder_arch, config.layer)


def scoring_encoder(config: TrainingProcessConfig) -> VisionEncoder | None:
    """The encoder that scores the samples of a training run; None if they are not scored."""
    if config.sample.score_with is None or config.train.disable_sampling:
        return None
    return VisionEncoder(str(config.sample.score_with), "auto", "image_embeds", SCORE_WITH)


def view_shape(config: AdapterConfig) -> ViewShape | None:
    """The size of what an adapter reads of an image; None if it reads none. Downloads the encoder if necessary.

    Raises:
        UserError: the encoder cannot be used.
    """
    if config.choice.reads != "view":
        return None
    encoder = encoder_of(config)
    return encoder.shape(encoder.files())


def check_encoder(encoder: VisionEncoder) -> EncoderFacts | None:
    """Check an encoder's configuration and the headers of its weights; None if they are not on this machine.

    Raises:
        UserError: the encoder cannot be used.
    """
    files = encoder.local_files()
    if files is None:
        return None
    size, shape = encoder.size(files), encoder.shape(files)
    shapes = read_shapes(files.weights)
    own = {name: value for name, value in shapes.items() if not name.startswith(_OF_OTHERS)}
    embedding = next((value for name, value in own.items() if name.endswith(KINDS[size.kind].patch_embedding)), None)
    if embedding is None or embedding[0] != size.width:
        found = "no weights of it" if embedding is None else f"weights of width {embedding[0]}"
        raise UserError(
            f"{encoder.setting}: {encoder.source} has the config.json of a {size.kind} encoder of width {size.width}, "
            f"but {found}. Download the folder again."
        )
    num_weights = sum(math.prod(value) for value in own.values())
    has_text = KINDS[size.kind].text_model != ""
    texts = sum(math.prod(value) for name, value in shapes.items() if has_text and name.startswith(_TEXT))
    if texts and encoder.setting == SCORE_WITH:
        _must_read_prompts(encoder, files)
    kept = size.num_layers if encoder.layer == "penultimate_hidden_states" else 0
    return EncoderFacts(shape, num_weights, (_WORKING + kept) * size.num_patches * size.width, texts)


def _must_read_prompts(encoder: VisionEncoder, files: ComponentFiles) -> None:
    assert files.folder is not None, "checked by `size`"
    if not any((files.folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            f"{encoder.setting}: {encoder.source} can compare pictures with prompts, but has no tokenizer (such as "
            f"{TOKENIZER_FILES[0]}). Download the whole folder."
        )
    settings = files.folder / _TOKENIZER_SETTINGS
    name = read_json(settings).get("tokenizer_class") if settings.is_file() else None
    if name == _IN_PIECES and find_spec("sentencepiece") is None:
        raise UserError(
            f"{encoder.setting}: {encoder.source} reads prompts with SentencePiece, which is not installed. Install it "
            "(`pip install sentencepiece`), or choose a SigLIP 2."
        )


def processor_settings(folder: Path) -> Mapping[str, Any]:
    """How an encoder wants its images, from its `preprocessor_config.json`; empty if there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / PROCESSOR
    settings = read_json(path) if path.is_file() else {}
    for key in ("image_mean", "image_std"):
        if (values := settings.get(key)) is None:
            continue
        values = values if isinstance(values, list) else [values] * 3
        if len(values) != 3 or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            raise UserError(f"{path}: `{key}` is not a list of three numbers, one per colour. Download it again.")
    return settings

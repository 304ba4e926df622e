"""Keys and values of ai-toolkit's job files that have no effect here, each with the reason."""

from __future__ import annotations

from toolkit.config.adapter import AdapterConfig
from toolkit.config.compat.experiments import EXPERIMENTS
from toolkit.config.compat.ignored import Ignored
from toolkit.config.compat.ignored import refuse as _refuse
from toolkit.config.compat.ignored import warn as _warn
from toolkit.config.dataset import DatasetConfig
from toolkit.config.drawing.generate import GenerateConfig
from toolkit.config.job import JobFile, RunConfig
from toolkit.config.logging import LoggingConfig
from toolkit.config.lora_jobs.settings import ExtractConfig, RescaleConfig
from toolkit.config.model import ModelConfig
from toolkit.config.network import NetworkConfig
from toolkit.config.sample import SampleConfig
from toolkit.config.sample_prompt import SamplePrompt
from toolkit.config.train import TrainConfig
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.optimizers.schedule_params import RestartParams, ScheduleParams
from toolkit.section import Section

NOT_YET = "not supported yet"
DEAD = "has no effect in ai-toolkit either"
ELSEWHERE = "only for video, audio, Stable Diffusion and other models"


def ignored_in(section: type[Section]) -> dict[str, Ignored]:
    """The row for each unused key of a section, including those of the sections it extends."""
    return {key: row for row in IGNORED if issubclass(section, row.section) for key in row.off}


def unsupported_values(section: type[Section], key: str) -> frozenset[str]:
    """Values that ai-toolkit accepts for a key of a section and this trainer does not."""
    return next(
        (UNSUPPORTED_VALUES[one, key] for one in section.__mro__ if (one, key) in UNSUPPORTED_VALUES), frozenset()
    )


# Keys in the `keys` string are off when empty, 0 or false; a keyword argument gives other values that mean "off".
IGNORED: tuple[Ignored, ...] = (
    _warn(RunConfig, "each process has its own `device`", device=("cpu", "cuda")),
    _warn(
        TrainingProcessConfig, "speed and memory are in the progress line and in events.jsonl", "performance_log_every"
    ),
    _warn(TrainingProcessConfig, "follow the run through events.jsonl instead", sqlite_db_path="./aitk_db.db"),
    _refuse(AdapterConfig, "adapters are trained here; a job cannot keep one frozen", train=True),
    _refuse(
        AdapterConfig,
        "vision encoders stay frozen, so that they see each image once and are unloaded before training",
        "train_image_encoder train_only_image_encoder train_only_image_encoder_positional_embedding",
    ),
    _refuse(
        AdapterConfig,
        "a factor for each layer adds nothing that its value weights, which start at zero, cannot learn",
        "train_scaler",
    ),
    _warn(AdapterConfig, "used only with `train_scaler`", "scaler_lr merge_scaler"),
    _refuse(AdapterConfig, "tokens are averaged, without weights of their own: set `num_tokens`", "conv_pooling"),
    _warn(AdapterConfig, "used only with `conv_pooling`", conv_pooling_stacks=1),
    _refuse(
        AdapterConfig,
        "there is no autoencoder between the vision encoder and the adapter, which reads the features directly",
        "sparse_autoencoder_dim",
    ),
    _refuse(AdapterConfig, "an image is seen as a whole, not in four quarters", "quad_image"),
    _warn(
        AdapterConfig,
        "used only with a vision encoder that is not supported here",
        "pixtral_random_image_size",
        pixtral_max_image_size=512,
        safe_reducer_channels=512,
        safe_channels=2048,
        safe_tokens=8,
    ),
    _warn(
        AdapterConfig,
        "used only by adapters that are not trained here",
        "image_dir trigger_class_name class_names text_encoder_path quantize_llm i2v_do_start_frame num_cloned_blocks",
        in_channels=3,
        channels=[320, 640, 1280, 1280],
        num_res_blocks=2,
        downscale_factor=8,
        adapter_type="full_adapter",
        trigger="tri993r",
        text_encoder_arch="clip",
        head_dim=1024,
        num_heads=1,
        ilora_down=(True, False),
        ilora_mid=(True, False),
        ilora_up=(True, False),
    ),
    _warn(NetworkConfig, "FLUX models have no convolutions", "conv conv_alpha"),
    _warn(NetworkConfig, ELSEWHERE, split_multistage_loras=(True, False)),
    _warn(NetworkConfig, DEAD, "layer_offloading"),
    _refuse(
        NetworkConfig,
        "apart from linear layers, FLUX only has the norms of queries and keys, which are not trained: for every "
        "linear layer set `transformer_only: false`, to train some layers in full `network_kwargs.full_if_contains`",
        "all_layers",
    ),
    _warn(LoggingConfig, "the page reads events.jsonl, which is always written", "use_ui_logger"),
    _warn(LoggingConfig, DEAD, verbose=(True, False)),
    _warn(DatasetConfig, DEAD, bucket_tolerance=64, extra_values=[]),
    _warn(DatasetConfig, "the trainer decides how images are loaded", num_workers=2, prefetch_factor=2),
    _warn(
        DatasetConfig, "the trainer decides how images are loaded", "cache_latents_num_workers fast_image_size debug"
    ),
    _warn(
        DatasetConfig,
        "pixels are always read from the image files",
        "load_image_when_caching_latents cache_tensors_to_disk",
    ),
    _refuse(DatasetConfig, "images are always sorted into buckets", buckets=True),
    _refuse(DatasetConfig, "only images are trained, not videos or audio", type="image"),
    _refuse(
        DatasetConfig,
        "use `flip_x`, `flip_y`, `square_crop`, `random_crop`, `random_scale` and `color_jitter`",
        "augments augmentations",
    ),
    _warn(DatasetConfig, "used only with augmentations", shuffle_augmentations=False, replay_transforms=True),
    _refuse(
        DatasetConfig,
        "reference images are supported only in the folders of `control_path`",
        "control_from_same_folder controls",
    ),
    _warn(DatasetConfig, "used only with `control_from_same_folder`", num_controls_from_same_folder=1),
    _warn(DatasetConfig, "reference images always keep their aspect ratio", full_size_control_images=True),
    _warn(DatasetConfig, "used only with `unconditional_path`", guidance_type="targeted"),
    _refuse(DatasetConfig, ELSEWHERE, "do_audio", num_frames=(0, 1)),
    _warn(DatasetConfig, ELSEWHERE, "auto_frame_count trim_auto_frame_count_tail audio_normalize", fps=(16, 24)),
    _warn(DatasetConfig, ELSEWHERE, "audio_preserve_pitch", shrink_video_to_frames=(True, False), do_i2v=(True, False)),
    _warn(TrainConfig, "has no effect in ai-toolkit either: `lr` applies to all weights", "unet_lr text_encoder_lr"),
    _warn(TrainConfig, "for weights that are not trained here", "embedding_lr refiner_lr"),
    _refuse(TrainConfig, "adapters and the network use the same learning rate, `lr`", "adapter_lr"),
    _warn(TrainConfig, "the kernel is chosen by `model.attention_backend`", "xformers sdp", attention_backend="native"),
    _warn(TrainConfig, "has no effect with FLUX in ai-toolkit either", "prompt_dropout_prob"),
    _warn(TrainConfig, "use `gradient_accumulation` instead", "single_item_batching"),
    _warn(TrainConfig, DEAD, content_or_style_reg="balanced"),
    _refuse(TrainConfig, "the transformer is always trained", train_unet=True),
    _refuse(TrainConfig, "the text encoder is not trained", "train_text_encoder"),
    _refuse(TrainConfig, ELSEWHERE, "train_turbo free_u weight_jitter short_and_long_captions_encoder_split"),
    _refuse(TrainConfig, ELSEWHERE, "standardize_images standardize_latents adaptive_scaling_factor"),
    _warn(TrainConfig, ELSEWHERE, train_refiner=(True, False), switch_boundary_every=1, audio_loss_multiplier=1),
    _warn(TrainConfig, ELSEWHERE, "adapter_assist_name_or_path match_adapter_assist", match_adapter_chance=0),
    _warn(ScheduleParams, "the schedule spans `train.steps`, or `num_steps`", "total_iters T_max num_training_steps"),
    _warn(ScheduleParams, "a run resumes at its checkpoint", last_epoch=-1),
    _refuse(RestartParams, "write `num_cycles`, the number of decays in the whole run", "T_0 T_i"),
    _refuse(RestartParams, "all cycles have the same length", T_mult=1),
    _refuse(ScheduleParams, "use `warmup_steps` and `min_lr` instead", factor=1, start_factor=1, end_factor=0),
    _warn(ModelConfig, "`train.dtype` is used instead", "dtype"),
    _warn(
        ModelConfig,
        "`compile` compiles code for all sizes as needed",
        "cache_size_limit",
        compile_mode="default",
        compile_dynamic=True,
    ),
    _warn(ModelConfig, "the memory plan decides where blocks are", split_model_other_module_param_count_scale=0.3),
    _warn(ModelConfig, DEAD, "vae_device te_device in_context extras_name_or_path"),
    _warn(ModelConfig, "cache entries are found by content", "latent_space_version"),
    _refuse(ModelConfig, NOT_YET, "accuracy_recovery_adapter"),
    _refuse(
        ModelConfig, ELSEWHERE, "is_v2 is_v3 is_xl is_sd3 is_ssd is_vega is_v_pred is_pixart is_auraflow is_lumina2"
    ),
    _refuse(ModelConfig, ELSEWHERE, "unet_path refiner_name_or_path experimental_xl use_flux_cfg"),
    _warn(ModelConfig, ELSEWHERE, text_encoder_bits=16, use_text_encoder_1=True, use_text_encoder_2=True),
    _warn(SampleConfig, "samples are generated with the model's own sampler", sampler="flowmatch"),
    _warn(
        SampleConfig,
        ELSEWHERE,
        num_frames=(0, 1),
        fps=(0, 1, 16, 24),
        refiner_start_at=0.5,
    ),
    _warn(GenerateConfig, "pictures are drawn with the model's own sampler", sampler=("ddpm", "flowmatch")),
    _warn(ExtractConfig, "these models have no convolutions", "conv"),
    _refuse(ExtractConfig, ELSEWHERE, "is_v2 is_v_pred is_xl"),
    _refuse(RescaleConfig, ELSEWHERE, "is_v2 is_v_pred is_xl"),
    _warn(ExtractConfig, "the file keeps the number format of its weights", "dtype"),
    _warn(RescaleConfig, "the file keeps its number format", "save_dtype"),
    _warn(RescaleConfig, "the file keeps its header", "replace_meta"),
    _warn(GenerateConfig, ELSEWHERE, "prompt_2 neg_2 guidance_rescale"),
    _warn(SamplePrompt, ELSEWHERE, "ctrl_idx"),
    _warn(SamplePrompt, ELSEWHERE, num_frames=(0, 1), fps=(0, 1, 16, 24)),
    *EXPERIMENTS,
)

QTYPES_OF_OTHERS = frozenset(
    [
        *["qfloat8_e5m2", "uint8", "convrotcomfyw4a4"],
        *["orbit2", "orbit3", "orbit4", "orbitvq2", "orbitvq3", "orbitvq4"],
    ]
)

# Values that ai-toolkit accepts for a key and this trainer does not; the error message says "not supported yet".
UNSUPPORTED_VALUES: dict[tuple[type[Section], str], frozenset[str]] = {
    (JobFile, "job"): frozenset(["train"]),
    (AdapterConfig, "image_encoder_arch"): frozenset(["clip+", "vit", "vit_hybrid", "pixtral", "safe", "convnext"]),
    (ModelConfig, "qtype"): QTYPES_OF_OTHERS,
    (ModelConfig, "qtype_te"): QTYPES_OF_OTHERS,
    (TrainConfig, "noise_scheduler"): frozenset(["ddpm", "euler", "lms", "dpmsolver", "lcm"]),
}

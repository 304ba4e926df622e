"""Experiments of ai-toolkit that are refused for good, each with the reason.

Its form does not offer them. What of them has a use has another spelling here, which the reason names.
"""

from __future__ import annotations

from toolkit.config.compat.ignored import Ignored, refuse, warn
from toolkit.config.dataset import DatasetConfig
from toolkit.config.model import ModelConfig
from toolkit.config.network import NetworkConfig, NetworkKwargs
from toolkit.config.sample import SampleConfig
from toolkit.config.sample_prompt import SamplePrompt
from toolkit.config.train import TrainConfig
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.config.updates.average import EmaConfig

SWITCHED = "used only with the key that turns it on"
_OTHER_NOISE = "a model that draws from Gaussian noise must be trained with Gaussian noise and unmodified VAE latents"
_OTHER_SCHEDULES = "belongs to the noise schedules of Stable Diffusion, and these models have none"
_BASE_NORM = "moves the target towards the prediction: set `train.diff_output_preservation` to stay near the base model"

EXPERIMENTS: tuple[Ignored, ...] = (
    # Noise levels
    refuse(
        TrainConfig,
        "a bell-shaped weighting over the noise levels: write `timestep_type: linear` and `loss_weighting: cosmap`",
        "linear_timesteps linear_timesteps2",
    ),
    refuse(TrainConfig, "noise levels are continuous, not one of a number of indices", num_train_timesteps=1000),
    refuse(TrainConfig, f"{_OTHER_SCHEDULES}: write `loss_weighting: min_snr`", "snr_gamma min_snr_gamma"),
    refuse(TrainConfig, "loss weights that are learned during training make losses incomparable", "learnable_snr_gos"),
    # Noise and latents
    refuse(
        TrainConfig,
        _OTHER_NOISE,
        "noise_offset dynamic_noise_offset random_noise_multiplier random_noise_shift blended_blur_noise "
        "do_signal_correction_noise do_batch_noise_correction do_signal_amplification",
        noise_multiplier=1,
        target_noise_multiplier=1,
        noisy_latent_multiplier=1,
        img_multiplier=1,
        latent_multiplier=1,
    ),
    warn(TrainConfig, SWITCHED, signal_correction_noise_scale=1),
    refuse(TrainConfig, "an image with the same noise each time is memorised", "force_consistent_noise"),
    refuse(
        TrainConfig,
        "pairing images with similar noise only helps in large batches when training from scratch, and biases what "
        "captions produce (Cheng and Schwing 2025, arXiv 2503.10636)",
        optimal_noise_pairing_samples=1,
    ),
    # Targets and errors
    refuse(TrainConfig, f"{_OTHER_SCHEDULES}, from which the other targets are computed", loss_target="noise"),
    refuse(TrainConfig, _BASE_NORM, "correct_pred_norm match_noise_norm"),
    warn(TrainConfig, SWITCHED, correct_pred_norm_multiplier=1),
    refuse(
        TrainConfig,
        "the standard deviation of a prediction depends on the noise level, and is not 1",
        "target_norm_std",
    ),
    warn(TrainConfig, SWITCHED, target_norm_std_value=1),
    refuse(TrainConfig, "a prediction that is scaled in training differs from the one used for drawing", pred_scaler=1),
    refuse(
        TrainConfig,
        "a prediction that is guided in training no longer responds to guidance in samples: see `do_guidance_loss`",
        "do_cfg do_random_cfg",
    ),
    warn(TrainConfig, SWITCHED, max_cfg_scale=1, cfg_rescale=1),
    refuse(
        TrainConfig,
        "the error of the image is sigma times that of the velocity, which is a weighting: see `loss_weighting`",
        "t0_loss_target t0_velocity_equiv_weight",
    ),
    refuse(
        TrainConfig,
        "the spectrum of latents ignores positions, and no benefit of it is known",
        "do_fft_loss do_fft_velocity_equiv_weight",
    ),
    refuse(
        TrainConfig,
        "needs a network by ai-toolkit's author that exists for the latents of one model only",
        "diffusion_feature_extractor_path latent_feature_extractor_path",
    ),
    warn(TrainConfig, SWITCHED, diffusion_feature_extractor_weight=1, latent_feature_loss_weight=1),
    refuse(TrainConfig, "an empty prompt is preserved by `blank_prompt_preservation`", "do_blank_stabilization"),
    warn(TrainConfig, "losses that `max_loss` limits are visible in the loss curve", "max_loss_debug"),
    # Words
    refuse(
        TrainConfig,
        "nobody writes a prompt that repeats itself: repeat it in the captions if you need to",
        "prompt_saturation_chance",
    ),
    refuse(TrainConfig, "what to avoid is for samples: set `sample.neg`", "negative_prompt"),
    warn(TrainConfig, "used only with `negative_prompt`", max_negative_prompts=1),
    # Weights
    refuse(
        TrainConfig,
        "a run resumes at the step of its checkpoint, which determines the order of the images and the schedule",
        "start_step",
    ),
    refuse(
        TrainConfig,
        "trains a random part of the weights at a time, to save memory: a network, 8-bit optimizer states and "
        "offloading save more",
        "do_paramiter_swapping",
    ),
    warn(TrainConfig, SWITCHED, paramiter_swapping_factor=0.1),
    refuse(
        EmaConfig, "writing the average back into the weights defeats its purpose", "use_feedback", param_multiplier=1
    ),
    refuse(NetworkConfig, "LoRM reduces the base model itself to low rank, which is a different task", "lorm"),
    refuse(NetworkKwargs, "belongs to LyCORIS networks with convolutions", "parameter_threshold"),
    refuse(
        TrainingProcessConfig, "LoRM reduces the base model itself to low rank, which is a different task", "do_lorm"
    ),
    warn(TrainingProcessConfig, "used only with `do_lorm`", lorm_extract_mode="ratio", lorm_extract_mode_param=0.25),
    refuse(
        TrainingProcessConfig,
        "learned tokens are for text encoders that stay loaded in training: train a `network` with a `trigger_word`",
        "embedding decorator",
    ),
    refuse(TrainingProcessConfig, "for Stable Diffusion: train `type: concept_slider`", "guidance"),
    warn(TrainingProcessConfig, "the time of each step is in events.jsonl", "torch_profiler"),
    # Data and models
    refuse(DatasetConfig, "the VAE reads images from -1 to 1, whatever their mean", "standardize_images"),
    refuse(DatasetConfig, "ai-toolkit refuses it too", "poi"),
    refuse(
        DatasetConfig,
        "a vision encoder sees each image once, before training: put modified copies into the folder",
        "clip_image_augmentations",
    ),
    refuse(
        ModelConfig,
        "ignored by ai-toolkit with FLUX.2: merge the LoRA first, with `python -m toolkit.lora merge`",
        "lora_path",
    ),
    refuse(ModelConfig, "for guided losses of other models", "unconditional_lora_path"),
    refuse(ModelConfig, "ignored by ai-toolkit with FLUX.2: see `qtype` and the keys beside it", "quantize_kwargs"),
    refuse(ModelConfig, "the models were trained without a mask for text", "attn_masking"),
    refuse(ModelConfig, "crashes ai-toolkit with FLUX.2 at the first sample", "inference_lora_path"),
    warn(ModelConfig, "does not change what is trained", "block_compile compile_fullgraph"),
    warn(SampleConfig, "FLUX draws without it", "guidance_rescale do_cfg_norm extra_values"),
    warn(SamplePrompt, "FLUX draws without it", "guidance_rescale do_cfg_norm extra_values"),
)

"""Where the same job file means something other than in ai-toolkit: for the documentation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Departure:
    """One difference: the key, what ai-toolkit does, what this trainer does, and why."""

    key: str
    theirs: str
    ours: str
    why: str


DEPARTURES: tuple[Departure, ...] = (
    Departure("any unknown key", "ignored", "an error", "A typo must not cost a night of training."),
    Departure("any key set to null", "none, or a crash", "treated as not given", "An empty line means nothing."),
    Departure("${VAR}", "expanded in comments too, stored expanded", "in values only, stored as written", "Secrets."),
    Departure(
        "no network",
        "full fine-tune",
        "an error; a full fine-tune needs `train.full_finetune: true`",
        "A forgotten key must not train everything.",
    ),
    Departure("network.linear", "4", "16", "4 is too small for most subjects."),
    Departure(
        "network.linear_alpha",
        "ignored with FLUX: the scale is 1",
        "used; default: linear",
        "A setting must do what it says.",
    ),
    Departure("network.type: unknown", "trains a LoRA", "an error", "Not what was asked for."),
    Departure("save.save_every", "1000", "250", "Little is lost when a run stops."),
    Departure("save.dtype", "float16", "bf16", "fp16 overflows above 65504."),
    Departure(
        "save.save_format, full fine-tune of FLUX.1",
        "always diffusers",
        "as given; default: one file",
        "As for FLUX.2.",
    ),
    Departure("save.max_step_saves_to_keep", "5", "4", "As in ai-toolkit's own UI and examples."),
    Departure("logging.log_every", "100", "10", "The curve shows something from the start."),
    Departure("datasets[].resolution", "512", "what the model's card says, or 1024", "FLUX.2 is made for 1024."),
    Departure(
        "datasets[].caption_dropout_rate",
        "0",
        "0.05",
        "Preserves the model's output without a caption; as in all their examples.",
    ),
    Departure(
        "datasets[].folder_path: images in subfolders",
        "trained on",
        "skipped and counted; `recursive: true` trains on them",
        "Masks and references in a subfolder are not images to learn.",
    ),
    Departure(
        "train.short_and_long_captions",
        "both at once, in a batch of twice the size",
        "one or the other, drawn at each use",
        "The same in the mean, at half the cost of a step.",
    ),
    Departure(
        "datasets[].shuffle_tokens, token_dropout_rate, random_triggers with cached captions",
        "drawn once when caching, or not at all",
        "`caption_variants` variants of each caption are encoded; one is drawn at each use",
        "The text encoder need not stay in memory.",
    ),
    Departure("datasets[].control_path: a file is missing", "trains without it", "an error", "Not what was asked for."),
    Departure(
        "datasets[].clip_image_path: a file is missing", "another image, or none", "an error", "Not what was asked for."
    ),
    Departure(
        "datasets[].clip_image_from_same_folder",
        "another image of the folder, at random",
        "the training image itself",
        "The result is the same each time; unrelated images teach nothing.",
    ),
    Departure(
        "adapter: the image is dropped",
        "random noise goes through the encoder",
        "the adapter is off",
        "As in samples without an image.",
    ),
    Departure(
        "datasets[].flip_x, flip_y with references",
        "references are not flipped",
        "flipped too",
        "The images must still match.",
    ),
    Departure(
        "datasets[].control_path, one reference", "up to 1024² pixels", "up to 2024²", "As in FLUX.2's own code."
    ),
    Departure(
        "datasets[]: colour profiles", "ignored", "converted to sRGB", "Otherwise photos are trained in wrong colours."
    ),
    Departure(
        "datasets[]: an image without any caption",
        "trained with an empty caption",
        "an error; `default_caption: ''` allows it",
        "Usually a misspelt file name.",
    ),
    Departure(
        "datasets[].is_reg: a dropped caption",
        "becomes the trigger word",
        "becomes empty",
        "These images must not be tied to the trigger word.",
    ),
    Departure(
        "datasets[].cache_latents", "false", "true", "The VAE need not stay in memory together with the transformer."
    ),
    Departure("train.lr", "1e-6", "1e-4", "With 1e-6, a LoRA learns nothing."),
    Departure("train.dtype", "fp32", "bf16", "FLUX.2 in fp32 fits on no card."),
    Departure("train.noise_scheduler", "ddpm, which crashes with FLUX.2", "flowmatch", "FLUX is a flow model."),
    Departure("train.optimizer_params.eps", "1e-6, cannot be set", "1e-8", "As everywhere else."),
    Departure("train.gradient_accumulation", "sums gradients", "averages them", "lr keeps its meaning."),
    Departure(
        "train.gradient_accumulation_steps",
        "a second, broken kind of accumulation",
        "same as `train.gradient_accumulation`",
        "One meaning is enough.",
    ),
    Departure(
        "train.lr_scheduler: linear", "rises from lr/3 to lr", "falls to `min_lr`", "What the name means elsewhere."
    ),
    Departure(
        "train.lr_scheduler_params.warmup_steps",
        "for constant_with_warmup only; default 1000",
        "for every schedule; default for constant_with_warmup: a tenth of the run, at most 1000",
        "A run of 500 steps would never reach lr.",
    ),
    Departure(
        "train.loss_type: mean_flow",
        "a finite difference in the training dtype, and the sign of the other direction",
        "`objective: mean_flow`: steps of the base model as a teacher",
        "In bf16 the difference is noise.",
    ),
    Departure(
        "datasets[].mask_path: a mask is missing, empty or of another shape",
        "trains without it, or fails",
        "an error",
        "Not what was asked for.",
    ),
    Departure(
        "datasets[].mask_path", "blurred at random on each load", "as it is", "The edge is where it was painted."
    ),
    Departure(
        "train.diff_output_preservation: a caption without the trigger word",
        "preserved, against what it teaches",
        "preserves nothing",
        "A term must not contradict the loss.",
    ),
    Departure(
        "train.guidance_loss_target: a list",
        "crashes with FLUX.2",
        "each sample draws a value between the two",
        "No crash.",
    ),
    Departure(
        "train.max_loss", "limits the mean of a batch", "limits each sample", "One outlier must not stop the rest."
    ),
    Departure("train.loss_type: wavelet", "Haar coefficients", "read as `mse`", "The same number."),
    Departure(
        "train.loss_type: stepped",
        "times that of `weighted`",
        "`loss_weighting: stepped` instead",
        "One weighting at a time.",
    ),
    Departure(
        "train.timestep_type: lognorm_blend",
        "a new list of 1,000 draws for each batch",
        "the distribution itself, always the same",
        "Runs are reproducible.",
    ),
    Departure("slider", "four terms, of which two are equal", "two terms with the same sum", "The same loss."),
    Departure("train.loss_type: unknown", "mse", "an error", "Not what was asked for."),
    Departure(
        "train.ema_config.ema_decay",
        "0.999",
        "0.99",
        "0.999 lags behind in a run of 1000 steps; as in all their examples.",
    ),
    Departure(
        "train.merge_network_on_save",
        "each save ends one network and begins another",
        "files are merged, and the training goes on as without",
        "A save must not change the training.",
    ),
    Departure(
        "train.lr_scheduler: cosine_with_restarts",
        "never restarts",
        "decays `num_cycles` times, by default twice",
        "What the name means elsewhere.",
    ),
    Departure(
        "train.lr_scheduler: step, polynomial, piecewise_constant",
        "fail",
        "schedules with defaults of their own",
        "No crash.",
    ),
    Departure(
        "train.timestep_type: weighted",
        "a table of 1000 weights",
        "a polynomial fitted to it, rms error 0.009",
        "Equally good.",
    ),
    Departure("training_seed", "none", "42", "Runs are reproducible."),
    Departure("training_folder", "must be given", "output", "A sensible default."),
    Departure("device", "ignored", "used; default: auto", "A setting must do what it says."),
    Departure("model.arch: missing or unknown", "loads Stable Diffusion 1.5", "an error", "Not what was asked for."),
    Departure(
        "model.layer_offloading_transformer_percent",
        "of randomly chosen layers",
        "of evenly spread blocks",
        "Runs are reproducible, and copies overlap with the blocks in between.",
    ),
    Departure("sample.sample_every", "100", "250", "Same as save.save_every."),
    Departure(
        "sample.width, sample.height", "512", "what the model's card says, or 1024", "Same as the training resolution."
    ),
    Departure("sample.guidance_scale", "7", "what the model's card says, or 4", "7 oversaturates FLUX.2."),
    Departure("sample.sample_steps", "20", "what the model's card says, or 25", "As in their examples."),
    Departure("sample.neg", "false, which crashes with FLUX.2 dev", "empty", "No crash."),
    Departure("sample.seed", "0", "42", "As in their examples."),
)

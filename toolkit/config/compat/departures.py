"""Where the same job file means something else than in ai-toolkit: for the documentation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Departure:
    """One difference: the key, what ai-toolkit does, what we do, and why."""

    key: str
    theirs: str
    ours: str
    why: str


DEPARTURES: tuple[Departure, ...] = (
    Departure("any unknown key", "ignored", "an error", "A typing mistake must not cost a night of training."),
    Departure("any key set to null", "none, or a crash", "counts as not given", "An empty line means nothing."),
    Departure("${VAR}", "expanded in comments too, stored expanded", "in values only, stored as written", "Secrets."),
    Departure("no network", "full fine-tune", "an error; full fine-tunes say `train.full_finetune: true`", "A trap."),
    Departure("network.linear", "4", "16", "4 is too small for most subjects."),
    Departure(
        "network.linear_alpha", "ignored with FLUX: the scale is 1", "honoured; default: linear", "It is asked for."
    ),
    Departure("network.type: unknown", "trains a LoRA", "an error", "Not what was asked for."),
    Departure("save.save_every", "1000", "250", "Little is lost when a run stops."),
    Departure("save.dtype", "float16", "bf16", "The range of bf16 is that of the weights."),
    Departure(
        "save.save_format, full fine-tune of FLUX.1", "always diffusers", "as asked; default: one file", "As FLUX.2."
    ),
    Departure("save.max_step_saves_to_keep", "5", "4", "As ai-toolkit's own UI and examples."),
    Departure("logging.log_every", "100", "10", "A curve that shows something from the start."),
    Departure("datasets[].resolution", "512", "what the model's card says, or 1024", "FLUX.2 is made for 1024."),
    Departure(
        "datasets[].caption_dropout_rate", "0", "0.05", "Keeps the model without caption; as all their examples."
    ),
    Departure("datasets[].control_path: a file is missing", "trains without it", "an error", "Not what was asked for."),
    Departure(
        "datasets[].flip_x, flip_y with references", "references are not flipped", "flipped too", "Still a pair."
    ),
    Departure("datasets[].control_path, one reference", "up to 1024² pixels", "up to 2024²", "As FLUX.2's own code."),
    Departure(
        "datasets[]: colour profiles", "ignored", "converted to sRGB", "Else photos are trained in wrong colours."
    ),
    Departure(
        "datasets[]: an image without any caption",
        "trained without words",
        "an error; `default_caption: ''` allows it",
        "Mostly a misspelt file name.",
    ),
    Departure(
        "datasets[].is_reg: a dropped caption", "the trigger word", "no words", "They must not learn the trigger word."
    ),
    Departure("datasets[].cache_latents", "false", "true", "The VAE need not stay in memory beside the transformer."),
    Departure("train.lr", "1e-6", "1e-4", "1e-6 teaches a LoRA nothing."),
    Departure("train.dtype", "fp32", "bf16", "FLUX.2 in fp32 fits on no card."),
    Departure("train.noise_scheduler", "ddpm, which crashes with FLUX.2", "flowmatch", "FLUX is a flow model."),
    Departure("train.optimizer_params.eps", "1e-6, cannot be set", "1e-8", "As everywhere else."),
    Departure("train.gradient_accumulation", "sums gradients", "averages them", "lr keeps its meaning."),
    Departure("train.gradient_accumulation_steps", "another, broken, accumulation", "the same key", "One meaning."),
    Departure(
        "train.lr_scheduler: linear", "rises from lr/3 to lr", "falls to `min_lr`", "What its name says elsewhere."
    ),
    Departure(
        "train.lr_scheduler_params.warmup_steps",
        "constant_with_warmup only, 1000",
        "all; a tenth, at most 1000",
        "A run of 500 steps would never reach lr.",
    ),
    Departure("train.loss_type: unknown", "mse", "an error", "Not what was asked for."),
    Departure(
        "train.ema_config.ema_decay", "0.999", "0.99", "0.999 lags behind a run of 1000 steps; as all their examples."
    ),
    Departure(
        "train.timestep_type: weighted",
        "a table of 1000 weights",
        "a polynomial through it, rms error 0.009",
        "As good.",
    ),
    Departure("training_seed", "none", "42", "A run can be repeated."),
    Departure("training_folder", "must be given", "output", "A place to start with."),
    Departure("device", "ignored", "honoured; auto", "It is asked for."),
    Departure("model.arch: missing or unknown", "loads Stable Diffusion 1.5", "an error", "Not what was asked for."),
    Departure(
        "model.layer_offloading_transformer_percent",
        "layers are chosen at random",
        "blocks, spread evenly",
        "A run can be repeated, and copies hide behind the blocks between.",
    ),
    Departure("sample.sample_every", "100", "250", "As save.save_every."),
    Departure("sample.width, sample.height", "512", "what the card says, or 1024", "The size of the training."),
    Departure("sample.guidance_scale", "7", "what the card says, or 4", "7 burns FLUX.2."),
    Departure("sample.sample_steps", "20", "what the card says, or 25", "As their examples."),
    Departure("sample.neg", "false, which crashes with FLUX.2 dev", "empty", "No crash."),
    Departure("sample.seed", "0", "42", "As their examples."),
)

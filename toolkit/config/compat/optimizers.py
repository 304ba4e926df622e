"""Whether a job's optimizer suits its other settings; readable without torch."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.config.train import TrainConfig
from toolkit.config.training_process import TrainingProcessConfig
from toolkit.errors import Problem
from toolkit.optimizers.choices import optimizer_row
from toolkit.optimizers.row import FINDER_LR, SMALLEST_FINDER_LR, OptimizerChoice, is_class

INSTALL = "pip install -r requirements-optimizers.txt"
_KEY = "train.optimizer"


def optimizer_problems(config: TrainingProcessConfig) -> Iterator[Problem]:
    """Settings that conflict with the job's optimizer."""
    train = config.train
    row = optimizer_row(train.optimizer)
    if not row.is_installed:
        yield Problem(_KEY, _missing(train.optimizer, row))
    if row.finds_its_rate:
        yield from _not_free(config)
    elif row.largest_lr is not None and train.lr >= FINDER_LR:
        what = "is for optimizers that find the step size themselves, such as prodigy"
        yield Problem("train.lr", f"{train.lr:g} {what}. With {train.optimizer}, set `lr: {row.lr}`")
    if row.keeps_average and train.ema_config is not None and train.ema_config.num_averages:
        what = f"{train.optimizer} already keeps an average of the weights, which is what is saved"
        yield Problem("train.ema_config", f"{what}. Remove `ema_config`")
    yield from _not_one_by_one(train, row)
    if config.model.split_model_over_gpus and row.needs_one_card:
        yield Problem(_KEY, f"{train.optimizer} cannot sum over several cards. Use `prodigy`")
    if train.sharding == "full" and not row.is_shardable:
        yield Problem(_KEY, f"{train.optimizer} needs whole weights, {_no_rows(train, row)} Use `adamw` or `adamw8bit`")


def _not_free(config: TrainingProcessConfig) -> Iterator[Problem]:
    """Settings that would override an optimizer's own choice of step size, or are silently overridden by it."""
    train, network = config.train, config.network
    what = f"{train.optimizer} finds the step size itself"
    if train.lr < SMALLEST_FINDER_LR:
        yield Problem("train.lr", f"{what} and multiplies it by `lr`: {train.lr:g} would stop it. Set `lr: 1`")
    if network is not None and network.loraplus_lr_ratio != 1:
        yield Problem("network.loraplus_lr_ratio", f"{what}, one for all weights. Remove the key")
    for index, pattern in enumerate(network.patterns if network else ()):
        if pattern.lr is not None:
            yield Problem(f"network.patterns[{index}].lr", f"{what}, one for all weights. Remove the key")


def _not_one_by_one(train: TrainConfig, row: OptimizerChoice) -> Iterator[Problem]:
    if row.is_single:
        return
    what = f"{train.optimizer} updates all weights together"
    if train.fused_backward_pass:
        yield Problem("train.fused_backward_pass", f"{what}: remove the key, or use `adamw8bit`")
    if train.full_finetune_weights != "fp32":
        stored = f"{train.full_finetune_weights} has only one of them in fp32 at a time"
        yield Problem("train.full_finetune_weights", f"{what}, and {stored}: set fp32, or use `adamw8bit`")


def _no_rows(train: TrainConfig, row: OptimizerChoice) -> str:
    if is_class(train.optimizer):
        return "as far as is known: `sharding: full` gives each process some rows of them."
    return "of which `sharding: full` gives each process some rows."


def _missing(name: str, row: OptimizerChoice) -> str:
    if is_class(name):
        package = row.target.partition(":")[0].partition(".")[0]
        return f"there is no package {package} here. Install it, or put it into a folder that Python imports from"
    return f"{name} comes with {row.library}, which is not installed: {INSTALL}"

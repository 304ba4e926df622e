"""Makes an average of any width from the snapshots in the checkpoints of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.config import ModelConfig, NetworkConfig, SaveConfig
from toolkit.config.updates.average import SNAPSHOTS
from toolkit.dtypes import torch_dtype
from toolkit.errors import UserError
from toolkit.lora.files import write_lora_file
from toolkit.models.base_model import BaseModel
from toolkit.models.options import ModelOptions
from toolkit.models.saving import save_transformer
from toolkit.networks.build import build_part
from toolkit.networks.files import NetworkFile, format_of
from toolkit.networks.targets import planned_targets
from toolkit.optimizers.power_profile import NARROWEST, WIDEST, Fit, Profile, fit
from toolkit.output.bundles import Bundle, find_bundles
from toolkit.randomness import Draws
from toolkit.util.get_model import get_model_class
from toolkit.weights.row_files import RowFiles
from toolkit.weights.tensor_files import read_metadata

MOST_ERROR = 0.25  # of the shares of the steps, relative to those that were asked for


@dataclass(frozen=True)
class Snapshot:
    """A stored average: its shares, the bundle it is in, and the part of it."""

    profile: Profile
    bundle: Bundle
    part: str

    def files(self) -> RowFiles:
        """Its tensors."""
        return RowFiles(self.bundle.part_files(self.part))


def ema(folder: Path, output: Path, *, width: float, step: int | None = None) -> list[str]:
    """Write the power-function average of a run's weights as a file like those of the run.

    Args:
        folder: the output folder of a run with `train.ema_config.power_ema`.
        output: file or, where the run writes folders, folder to write.
        width: width of the average, as a share of the steps before `step`.
        step: the last step in it; None for that of the newest checkpoint.

    Returns:
        Lines for the user.

    Raises:
        UserError: the run has no snapshots, or too few for this width; or its model is not to be found.
    """
    if not NARROWEST <= width <= WIDEST:
        raise UserError(f"--width {width:g}: must be between {NARROWEST} and {WIDEST}: a share of the training.")
    snapshots, last = _snapshots(folder, step)
    wanted = Profile(width, last.profile.step, last.profile.since)
    found = fit([one.profile for one in snapshots], wanted)
    if found.error > MOST_ERROR:
        raise UserError(_too_few(folder, snapshots, wanted, found))
    config = last.bundle.manifest["config"]
    if config.get("adapter"):
        raise UserError(f"{folder}: the run trained adapters, and this tool cannot average adapters.")
    metadata = _metadata(last.bundle) | {"average": json.dumps({"width": width, "step": wanted.step})}
    values = _Sum(snapshots, found)
    write = _write_network if config.get("network") else _write_transformer
    what = write(config, values, output, metadata)
    steps = {one.profile.step for one in snapshots}
    return [
        f"{what}: the average of width {width:g} up to step {wanted.step}, from {len(snapshots)} snapshots of "
        f"{len(steps)} checkpoints",
        f"  distance from the average that training would have kept: {100 * found.error:.2g} % of its shares",
    ]


class _Sum:
    """The trained weights: a weighted sum of those of the snapshots, read one by one."""

    def __init__(self, snapshots: list[Snapshot], found: Fit) -> None:
        self._files = [one.files() for one in snapshots]
        self._factors = found.factors
        self.names = set(self._files[0])

    def __getitem__(self, name: str) -> Tensor:
        """One weight, fp32."""
        total = torch.zeros((), dtype=torch.float64)
        for files, factor in zip(self._files, self._factors, strict=True):
            total = total + factor * files.read(name, slice(0, files.num_rows(name))).double()
        return total.float()

    def copy_into(self, parameters: Mapping[str, Tensor], *, source: str) -> None:
        """Give trained weights these values.

        Raises:
            UserError: they are other weights.
        """
        if missing := self.names - parameters.keys():
            raise UserError(
                f"{source}: the run trained {sorted(missing)[0]}, which the model does not have. Is it still the same "
                "model?"
            )
        with torch.no_grad():
            for name in self.names:
                parameters[name].copy_(self[name])


def _snapshots(folder: Path, step: int | None) -> tuple[list[Snapshot], Snapshot]:
    """The snapshots of a run up to a step, and the last of them."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Give the output folder of a run.")
    bundles, broken = find_bundles(folder, is_thorough=False)
    found = [
        Snapshot(Profile(width, bundle.step, bundle.manifest.get("averages", {}).get(part, 0)), bundle, part)
        for bundle in bundles
        for part, width in SNAPSHOTS.items()
        if bundle.part_files(part)[0] in bundle.files
    ]
    if not found:
        damaged = f" (damaged: {', '.join(str(one.folder) for one in broken)})" if broken else ""
        raise UserError(
            f"{folder}: its checkpoints have no snapshots of averages{damaged}. They are kept by runs with "
            "`train.ema_config: {power_ema: true}`."
        )
    steps = sorted({one.profile.step for one in found})
    if step is not None and step not in steps:
        raise UserError(f"--step {step}: {folder} has no snapshots of this step, only of {', '.join(map(str, steps))}.")
    chosen = [one for one in found if step is None or one.profile.step <= step]
    last = max(chosen, key=lambda one: one.profile.step)
    if last.profile.step == last.profile.since:
        raise UserError(f"{folder}: its averages began at step {last.profile.since}, and do not include any step yet.")
    return [one for one in chosen if one.profile.step > one.profile.since], last


def _too_few(folder: Path, snapshots: list[Snapshot], wanted: Profile, found: Fit) -> str:
    steps = sorted({one.profile.step for one in snapshots})
    return (
        f"--width {wanted.width:g}: cannot be made from the snapshots in {folder}, of steps "
        f"{', '.join(map(str, steps))}: it would differ by {100 * found.error:.0f} % from what was asked for. Choose a "
        f"width nearer to {' and '.join(map(str, SNAPSHOTS.values()))}. A run keeps more snapshots with a smaller "
        "save.save_every and save.max_step_saves_to_keep: 0."
    )


def _metadata(bundle: Bundle) -> dict[str, str]:
    """The header of the run's own file of the same step, or what is known without it."""
    is_merged = bundle.manifest["config"]["train"].get("merge_network_on_save", False)
    for path in () if is_merged else bundle.output_files:
        if path.suffix == ".safetensors" and path.is_file():
            return read_metadata(path)
    return {"format": "pt", "training_info": json.dumps({"step": bundle.step})}


def _model(config: Mapping[str, Any], dtype: torch.dtype) -> BaseModel:
    """The run's model, to be used on a CPU without compression."""
    given = {"quantize": False, "quantize_te": False, "layer_offloading": False, "split_model_over_gpus": False}
    model = ModelConfig.model_validate({**config["model"], **given})
    options = ModelOptions(transformer_dtype=dtype, notify=lambda line: None)
    return get_model_class(model)(model, device=torch.device("cpu"), dtype=dtype, options=options)


def _write_network(config: Mapping[str, Any], values: _Sum, output: Path, metadata: Mapping[str, str]) -> Path:
    """Write a network's file. Its model is not loaded."""
    save, network = SaveConfig.model_validate(config["save"]), NetworkConfig.model_validate(config["network"])
    dtype = torch_dtype(save.dtype)
    model = _model(config, dtype)
    targets = planned_targets(model, network)
    if not targets:
        raise UserError(
            f"model.name_or_path: {model.model_config.name_or_path} is not on this machine, but its layer names are "
            "needed."
        )
    parts = {target.name: build_part(target, network, Draws(0)) for target in targets}
    parameters = {f"{target}.{name}": p for target, part in parts.items() for name, p in part.named_parameters()}
    values.copy_into(parameters, source=str(model.model_config.name_or_path))
    file = NetworkFile(model, targets, parts)
    tensors = file.tensors(dtype, format_of(network, save.lora_file_format))
    write_lora_file(output, tensors, metadata, check=file.verifier(dtype))
    return output


def _write_transformer(config: Mapping[str, Any], values: _Sum, output: Path, metadata: Mapping[str, str]) -> Path:
    """Write the whole transformer: what was not trained comes from the base model, which is loaded."""
    save = SaveConfig.model_validate(config["save"])
    dtype = torch_dtype(save.dtype)
    model = _model(config, dtype)
    model.load("transformer")
    values.copy_into(dict(model.transformer.named_parameters()), source=str(model.model_config.name_or_path))
    base = output if save.save_format == "diffusers" else output.with_suffix("")
    save_transformer(model, base, save_format=save.save_format, dtype=dtype, metadata=metadata)
    return output

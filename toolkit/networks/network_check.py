"""Checks a job's `network` before any weight is loaded: whether it can work, and whether its filters have an effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from toolkit.config import NetworkConfig, TrainingProcessConfig
from toolkit.errors import JobError, Mistakes, Problem
from toolkit.lora.update import Update
from toolkit.models.base_model import BaseModel, SizedTarget
from toolkit.networks.build import empty_parts, num_weights
from toolkit.networks.choices import NETWORKS
from toolkit.networks.files import NetworkFile, format_of
from toolkit.networks.network import rates_of
from toolkit.networks.start_check import check_start
from toolkit.networks.targets import by_run, filtered, matches, planned_targets, why_none

_KWARGS = "network.network_kwargs"


def trained_weights(model: BaseModel, config: TrainingProcessConfig) -> tuple[tuple[int, ...] | None, tuple[int, ...]]:
    """How much a job's network trains, see `PlanInputs.lora_sides` and `PlanInputs.fixed_weights`. Loads no model.

    Args:
        model: the job's model, not loaded.
        config: the job's training process.

    Returns:
        The sides, and the weights that do not grow with the rank. The sides are None without a network, and if the
        model cannot list its layers.

    Raises:
        UserError: the file that the network starts from cannot be read.
    """
    network = config.network
    chosen = None if network is None else planned_targets(model, network)
    if network is None or chosen is None:
        return None, ()
    lists = model.get_transformer_block_names()

    def sides(target: SizedTarget) -> int:
        return num_weights(target, network) // network.linear if _grows(target, network) else 0

    def fixed(target: SizedTarget) -> int:
        return 0 if _grows(target, network) else num_weights(target, network)

    return by_run(chosen, lists, sides), by_run(chosen, lists, fixed)


def _grows(target: SizedTarget, network: NetworkConfig) -> bool:
    """Whether a target's number of weights is in proportion to `network.linear`."""
    kind, settings = network.at(target)
    return NETWORKS[kind].is_proportional and settings.rank == network.linear


def check_network(model: BaseModel, config: TrainingProcessConfig, *, source: str) -> list[str]:
    """Check that the network of a job can be built, initialised from its file, and saved. Loads no model.

    Args:
        model: the job's model, not loaded.
        config: the job's training process.
        source: path of the job file, for messages.

    Returns:
        Lines for the user.

    Raises:
        JobError: the network cannot be built, initialised or saved; with all reasons.
    """
    network = config.network
    if network is None:
        return []
    known = model.plan_lora_targets()
    chosen = planned_targets(model, network, known=known)
    blocks = model.get_transformer_block_names()
    problems = [Problem(_KWARGS, why_none(known, blocks, network))] if chosen == [] else []
    problems += _format_problems(model, chosen or [], network, config.save.lora_file_format)
    kinds = {network.type, *(one.type for one in network.patterns if one.type)}
    if "dora" in kinds and config.adapter:
        text = "DoRA scales its layers' outputs, and an adapter adds to them afterwards. Train only one of them"
        problems.append(Problem("network.type", text))
    if network.pretrained_lora_path is not None:
        problems += check_start(model, network, chosen, known)
    lines = [] if chosen is None else [*_idle_patterns(known, blocks, network), *_fused(chosen, network)]
    lines += _rates(chosen or [], network, config.train.lr)
    if problems:
        raise JobError(source, problems, notices=lines)
    return lines


def _format_problems(
    model: BaseModel, chosen: Sequence[SizedTarget], network: NetworkConfig, file_format: str
) -> list[Problem]:
    """What the file format cannot represent."""
    loras = [target for target in chosen if network.at(target)[0] == "lora"]
    others = [target for target in chosen if target not in loras]
    updates = {t.name: Update(torch.zeros(1, t.inputs), torch.zeros(t.outputs, 1)) for t in loras}
    mistakes = Mistakes()
    with mistakes.gathered():
        model.write_lora(updates, file_format)
    with mistakes.gathered():
        NetworkFile(model, others, empty_parts(others, network)).tensors(torch.float32, format_of(network, file_format))
    return [Problem("save.lora_format", str(error)) for error in mistakes.errors]


def _rates(chosen: Sequence[SizedTarget], network: NetworkConfig, lr: float) -> list[str]:
    """A line on the learning rates, if some weights have another than the job's."""
    parts = empty_parts(chosen, network)
    factors = rates_of(parts, network, lr)
    names = [f"{target}.{name}" for target, part in parts.items() for name, _ in part.named_parameters()]
    if not factors:
        return []
    counts = Counter(factors.get(name, 1.0) for name in names)
    told = ", ".join(f"{lr * factor:.4g} for {count}" for factor, count in sorted(counts.items()))
    return [f"learning rates (before the schedule): {told} of the network's {len(names)} matrices"]


def _idle_patterns(known: Sequence[SizedTarget], blocks: Sequence[str], network: NetworkConfig) -> list[str]:
    """Filter patterns that match no layer, or only layers that the job leaves out anyway."""
    reachable = filtered(known, blocks, NetworkConfig(transformer_only=network.transformer_only))
    kwargs, lines = network.network_kwargs, []
    for key, patterns in (
        (f"{_KWARGS}.only_if_contains", kwargs.only_if_contains),
        (f"{_KWARGS}.ignore_if_contains", kwargs.ignore_if_contains),
        (f"{_KWARGS}.full_if_contains", kwargs.full_if_contains),
        *((f"network.patterns[{index}].contains", one.contains) for index, one in enumerate(network.patterns)),
    ):
        for pattern in patterns:
            if not any(matches(target, pattern) for target in known):
                why = "matches no layer's name"
            elif not any(matches(target, pattern) for target in reachable):
                why = "matches only layers outside the blocks, which `network.transformer_only: true` leaves out"
            else:
                continue
            lines.append(f"warning: {key}: `{pattern}` {why}, so it has no effect")
    return lines


def _fused(chosen: Sequence[SizedTarget], network: NetworkConfig) -> list[str]:
    """Layers that are trained although no filter matches them: the released model fuses them with one that matches."""
    only, lines = network.network_kwargs.only_if_contains, []
    for pattern in only:
        fused: Counter[str] = Counter()
        for target in chosen:
            is_named = any(part in f"transformer.{target.name}" for part in only)
            others = [m for m in target.modules if not any(part in f"transformer.{m}" for part in only)]
            if others and not is_named and any(pattern in f"transformer.{module}" for module in target.modules):
                fused[", ".join(map(_last, others))] += 1
        lines += [
            f"notice: {_KWARGS}.only_if_contains: `{pattern}` also trains {others}, in {count} layers: the released "
            "model fuses them into one matrix, which gets one LoRA"
            for others, count in fused.items()
        ]
    return lines


def _last(name: str) -> str:
    return name.rpartition(".")[2]

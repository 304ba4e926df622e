"""The optimizers that a job can choose: one row each, readable without torch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from toolkit.optimizers import params
from toolkit.optimizers.row import SCALE_BYTES, OptimizerChoice, factored, muon, prodigy_free, row_of_class

LARGEST_ADAM_LR = 1e-2  # each step moves a weight by about lr: larger ones ruin a LoRA in a few steps

_FINDER: dict[str, Any] = {"finds_its_rate": True, "is_single": False, "is_shardable": False, "lr": "1"}
_DADAPT: dict[str, Any] = {**_FINDER, "library": "pytorch-optimizer", "is_batched": True, "needs_one_card": True}

OPTIMIZERS = {
    "adamw": OptimizerChoice(
        "torch.optim:AdamW",
        summary="Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101).",
        elsewhere=dict.fromkeys(
            ("adamw_torch", "adamw_fused", "adamw_torch_fused", "adamw_bf16", "optimi-adamw", "adamw_optimi"), "`adamw`"
        ),
        params=params.AdamParams,
        state_bytes=8.0,
        largest_lr=LARGEST_ADAM_LR,
        is_batched=True,
        is_elementwise=True,
        takes="a network of any kind: the standard choice",
    ),
    "adamw8bit": OptimizerChoice(
        "toolkit.optimizers.kinds.adam8bit:AdamW8bit",
        summary="AdamW that stores each of its two moments in one byte per weight.",
        spellings=("adamw_8bit",),
        elsewhere=dict.fromkeys(
            (
                "paged_adamw_8bit",
                "pagedadamw8bit",
                "adamw_bnb_8bit",
                "adamw_4bit",
                "adamw8",
                "bnb-adamw8bit",
                "ao-adamw8bit",
            ),
            "`adamw8bit`",
        ),
        params=params.AdamParams,
        state_bytes=2 + 2 * SCALE_BYTES,
        largest_lr=LARGEST_ADAM_LR,
        takes="saving memory: full fine-tunes or large networks",
    ),
    "adam": OptimizerChoice(
        "torch.optim:Adam",
        summary="Adam (Kingma & Ba 2015, arXiv 1412.6980); weight decay is part of the gradient.",
        params=params.AdamParams,
        state_bytes=8.0,
        largest_lr=LARGEST_ADAM_LR,
        is_batched=True,
        is_elementwise=True,
        takes="jobs from other programs; without weight decay it equals adamw",
    ),
    "adam8bit": OptimizerChoice(
        "toolkit.optimizers.kinds.adam8bit:Adam8bit",
        summary="Adam that stores each of its two moments in one byte per weight.",
        spellings=("adam_8bit",),
        elsewhere=dict.fromkeys(("adam8", "paged_adam8bit"), "`adam8bit`"),
        params=params.AdamParams,
        state_bytes=2 + 2 * SCALE_BYTES,
        largest_lr=LARGEST_ADAM_LR,
        takes="jobs from other programs",
    ),
    "ademamix8bit": OptimizerChoice(
        "toolkit.optimizers.kinds.ademamix8bit:AdEMAMix8bit",
        summary="AdamW with a second, longer memory (Pagliardini et al. 2024, arXiv 2409.03137), in 8 and 16 bits.",
        spellings=("ademamix_8bit",),
        elsewhere=dict.fromkeys(("ademamix", "paged_ademamix8bit", "bnb-ademamix8bit"), "`ademamix8bit`"),
        params=params.AdemamixParams,
        state_bytes=4 + 3 * SCALE_BYTES,
        largest_lr=LARGEST_ADAM_LR,
        takes="long runs with many images",
    ),
    "adafactor": OptimizerChoice(
        "transformers.optimization:Adafactor",
        summary="Second moments as rows and columns (Shazeer & Stern 2018, arXiv 1804.04235), with the job's learning "
        "rate.",
        params=params.AdafactorParams,
        bytes_of_shape=factored,
        largest_lr=LARGEST_ADAM_LR,
        is_shardable=False,
        fixed={"relative_step": False, "warmup_init": False},
        takes="the least memory: a full fine-tune that does not fit with adamw8bit",
    ),
    "adagrad": OptimizerChoice(
        "torch.optim:Adagrad",
        summary="Steps that shrink as the squared gradients add up (Duchi et al. 2011).",
        params=params.AdagradParams,
        state_bytes=4.0,
        is_batched=True,
        lr="1e-2",
        is_elementwise=True,
        takes="jobs from other programs",
    ),
    "lion": OptimizerChoice(
        "toolkit.optimizers.kinds.lion:Lion",
        elsewhere=dict.fromkeys(("optimi-lion", "lion_pytorch"), "`lion`"),
        summary="Updates by the sign of the momentum, with one moment (Chen et al. 2023, arXiv 2302.06675).",
        params=params.LionParams,
        state_bytes=4.0,
        largest_lr=1e-3,
        lr="2e-5",
        takes="large batches; its learning rate is a fifth of AdamW's",
    ),
    "lion8bit": OptimizerChoice(
        "toolkit.optimizers.kinds.lion:Lion8bit",
        summary="Lion that stores its moment in one byte per weight.",
        spellings=("lion_8bit",),
        elsewhere=dict.fromkeys(("paged_lion_8bit", "pagedlion8bit", "bnb-lion8bit"), "`lion8bit`"),
        params=params.LionParams,
        state_bytes=1 + SCALE_BYTES,
        largest_lr=1e-3,
        lr="2e-5",
        takes="a full fine-tune in little memory",
    ),
    "muon": OptimizerChoice(
        "toolkit.optimizers.kinds.muon:Muon",
        summary="Orthogonalised updates for matrices (Jordan et al. 2024; arXiv 2502.16982), AdamW for everything "
        "else.",
        params=params.MuonParams,
        bytes_of_shape=muon,
        largest_lr=LARGEST_ADAM_LR,
        is_shardable=False,
        takes="full fine-tunes and full-rank networks; uses AdamW's learning rate",
    ),
    "came": OptimizerChoice(
        "pytorch_optimizer:CAME",
        summary="Adafactor with a first moment, slower where updates are unsteady (Luo et al. 2023, arXiv 2307.02047).",
        params=params.CameParams,
        bytes_of_shape=lambda shape: factored(shape, tensors=2, whole=4),
        largest_lr=1e-3,
        is_shardable=False,
        is_batched=True,
        library="pytorch-optimizer",
        lr="6e-6",
        takes="half of AdamW's memory; at a small part of its rate",
    ),
    "automagic": OptimizerChoice(
        "toolkit.optimizers.kinds.automagic:Automagic",
        elsewhere={"automagicexperiment": "`automagic`"},
        summary="A learning rate for each tensor, which grows while its updates keep their signs; factored moments.",
        params=params.AutomagicParams,
        bytes_of_shape=lambda shape: math.prod(shape) + factored(shape),
        largest_lr=LARGEST_ADAM_LR,
        is_shardable=False,
        takes="when you do not want to choose a learning rate",
    ),
    "prodigy": OptimizerChoice(
        "toolkit.optimizers.kinds.prodigy:Prodigy",
        summary="Adam that finds its step size (Mishchenko & Defazio 2024, arXiv 2306.06101).",
        elsewhere=dict.fromkeys(("prodigyopt", "prodigy_adv"), "`prodigy`"),
        params=params.ProdigyParams,
        state_bytes=16.0,
        takes="LoRAs without a learning rate search; with a cosine schedule",
        **_FINDER,
    ),
    "prodigy8bit": OptimizerChoice(
        "toolkit.optimizers.kinds.prodigy:Prodigy8bit",
        summary="Prodigy with 8-bit moments, whose step size is estimated from every eleventh value.",
        spellings=("prodigy_8bit",),
        params=params.ProdigyParams,
        state_bytes=2 + 2 * SCALE_BYTES + 8 / 11,
        takes="Prodigy with little memory",
        **_FINDER,
    ),
    "prodigy_schedule_free": OptimizerChoice(
        "prodigyplus:ProdigyPlusScheduleFree",
        summary="Prodigy with an average of the weights in place of a schedule (LoganBooker's Prodigy Plus).",
        spellings=("prodigyplusschedulefree", "prodigy_plus_schedule_free", "prodigy_schedulefree"),
        params=params.ProdigyFreeParams,
        bytes_of_shape=prodigy_free,
        keeps_average=True,
        needs_one_card=True,
        library="prodigy-plus-schedule-free",
        fixed={"split_groups": False, "stochastic_rounding": False},
        takes="runs of open length; its authors' users report steps that stay very small with FLUX",
        **_FINDER,
    ),
    "schedulefree_adamw": OptimizerChoice(
        "schedulefree:AdamWScheduleFree",
        summary="AdamW with an average of the weights in place of a schedule (Defazio et al. 2024, arXiv 2405.15682).",
        spellings=("adamwschedulefree", "adamw_schedule_free", "schedule_free_adamw", "schedulefree"),
        elsewhere=dict.fromkeys(("adamw_schedulefree", "adamw_schedulefree+aggressive"), "`schedulefree_adamw`"),
        params=params.ScheduleFreeParams,
        state_bytes=8.0,
        largest_lr=0.1,
        keeps_average=True,
        is_single=False,
        is_batched=True,
        library="schedulefree",
        takes="runs whose length is open; with a constant schedule, at AdamW's rate",
    ),
    "dadapt_adam": OptimizerChoice(
        "pytorch_optimizer:DAdaptAdam",
        summary="Adam that finds its step size (Defazio & Mishchenko 2023, arXiv 2301.07733).",
        spellings=("dadaptadam",),
        elsewhere=dict.fromkeys(("dadaptation", "dadaptationadam", "dadaptadampreprint", "dadapt"), "`dadapt_adam`"),
        params=params.DadaptAdamParams,
        state_bytes=12.0,
        takes="jobs from other programs; Prodigy is its successor",
        **_DADAPT,
    ),
    "dadapt_lion": OptimizerChoice(
        "pytorch_optimizer:DAdaptLion",
        summary="Lion that finds its step size by D-Adaptation.",
        spellings=("dadaptlion",),
        elsewhere={"dadaptationlion": "`dadapt_lion`"},
        params=params.DadaptLionParams,
        state_bytes=8.0,
        takes="jobs from other programs",
        **_DADAPT,
    ),
    "dadapt_adagrad": OptimizerChoice(
        "pytorch_optimizer:DAdaptAdaGrad",
        summary="AdaGrad that finds its step size by D-Adaptation.",
        spellings=("dadaptadagrad",),
        params=params.DadaptAdagradParams,
        state_bytes=12.0,
        takes="jobs from other programs",
        **_DADAPT,
    ),
}
OPTIMIZERS |= dict.fromkeys(
    ("automagic2", "automagic3"),
    replace(
        OPTIMIZERS["automagic"],
        summary="Another name for automagic: ai-toolkit has three optimizers of this name.",
        takes="jobs of ai-toolkit",
        notice="is trained as `automagic`: a learning rate for each tensor, from how often updates keep their sign. "
        "It runs as an ordinary optimizer step, so clipping and accumulation work. The learning rates will differ from "
        "ai-toolkit's",
    ),
)


def optimizer_row(name: str) -> OptimizerChoice:
    """The row of an optimizer: of the table, or made for a class of the user's."""
    return OPTIMIZERS[name] if name in OPTIMIZERS else row_of_class(name)

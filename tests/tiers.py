"""Which tests `make quick` leaves out: whole runs, and others that take seconds or start programs, with the reason.

A new one stands here or has `@pytest.mark.slow`. Names are those of files from `tests/`, or of a test in a file; a
renamed one is noticed by `tests/test_tree.py`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

IS_TORTURE = bool(os.environ.get("TORTURE"))  # `make torture`

_TESTS = Path(__file__).resolve().parent

# Whole jobs are run in them, stopped, or killed.
WHOLE_RUNS = (
    "contract/test_jobs.py",
    "cloud/test_slurm.py",
    "extensions_built_in/flux/test_whole_runs.py",
    "extensions_built_in/flux2/test_matrix.py",
    "jobs/test_ranks.py",
    "ranks/test_context_parallel.py",
    "ranks/test_endings.py",
    "ranks/test_equal_ranks.py",
    "ranks/test_launchers.py",
    "ranks/test_same_run.py",
    "ranks/test_shared_endings.py",
    "ranks/test_shared_work.py",
    "ranks/test_sharded_kinds.py",
    "ranks/test_sharding.py",
    "reliability/bad_inputs/test_places.py",
    "reliability/bad_inputs/test_quantized_cache.py",
    "reliability/bad_inputs/test_restarts.py",
    "reliability/bad_inputs/test_secrets.py::test_no_secret_is_in_anything_that_a_run_leaves_behind",
    "reliability/test_corrupt_any_byte.py",
    "reliability/test_kill_adapters.py",
    "reliability/test_kill_anywhere.py",
    "reliability/test_kill_programs.py",
    "reliability/test_long_run.py",
    "reliability/test_planted_bugs.py",
    "reliability/test_signal_in_a_save.py",
    "test_adapter_memory_jobs.py",
    "test_caption_jobs.py",
    "test_control.py",
    "test_demo.py",
    "test_lora_jobs.py",
    "test_memory_jobs.py",
    "test_reference_training.py",
    "test_run_modal.py",
    "test_split_jobs.py",
    "test_training.py",
    "test_view_training.py",
    "ui/server/test_life.py",
    "toolkit/output/test_unowned.py::test_a_whole_job_keeps_the_lora_and_the_job_file_of_the_run_before",
    "toolkit/train/test_disk_faults.py",
    "toolkit/train/test_exact_resume.py",
    "toolkit/train/test_finished.py",
    "toolkit/train/validation/test_rounds.py",
    "toolkit/plan/test_out_of_memory.py::test_a_run_that_fills_the_card_says_so_and_keeps_its_checkpoint",
)

# What takes seconds without being one.
SLOW = {
    "contract/test_adapters.py": "every adapter lives once on every model, and steps are trained",
    "contract/test_precisions.py": "nine pairs of precisions for every model, and fp16 is slow on a CPU",
    "scripts/flux2_tiny/test_edits.py": "hundreds of pictures are drawn and judged",
    "scripts/flux2_tiny/test_judge.py": "hundreds of pictures are drawn and judged",
    "scripts/flux2_tiny/test_text.py": "a probe learns to read the embeddings of thousands of captions",
    "test_memory_check.py": "predictions are measured with runs",
    "test_run.py": "each test starts a process or several",
    "toolkit/quantize/test_quantized_training.py": "steps are trained with every quantized format",
    "toolkit/runtime/test_device_probe.py": "programs are started that import torch",
    "toolkit/runtime/test_stop.py": "each test starts a process, and ends it",
    "toolkit/train/test_feeder.py": "epochs of pictures are encoded",
    "toolkit/train/validation/test_proof.py": "the tiny model learns until it over-fits",
    "toolkit/weights/test_hub.py": "each test starts a process, and a hub that it asks",
    "ui/browser/test_browser.py": "a browser, a server and runs",
    "ui/simple/test_page.py": "a browser, a server and a real run",
    "ui/server/test_fuzz.py": "hundreds of requests for every route",
    "ui/server/test_hostile.py": "servers and runs are started and broken",
    "ui/server/test_check.py": "programs are started that import torch",
    "ui/server/test_views.py": "runs are started, and a log of 100 MB is written",
    "ui/server/test_security.py": "hundreds of payloads in every parameter of every route",
    "ui/server/test_jobs.py": "processes are started, stopped and killed",
    "extensions_built_in/flux2/test_loading.py::test_loading_1_gb_takes_no_more_memory_than_the_model_and_one_tensor": (
        "writes 1 GB, and reads it in a process of its own"
    ),
    "reliability/bad_inputs/test_flux_folders.py": "FLUX.1's folders are written and checked for each damage",
    "reliability/bad_inputs/test_job_files.py::test_no_key_takes_a_value_of_another_type_without_a_word": (
        "every key of a job, with every odd value"
    ),
    "reliability/bad_inputs/test_properties.py": "hypothesis tries thousands of files",
    "toolkit/memory/test_compiled_blocks.py": "torch traces every kind of block, forward and backward",
    "toolkit/memory/test_layer_offload.py": "the tiny model goes forward and back for each share of it that streams",
    "toolkit/memory/test_side_stream.py": "the tiny model learns once for each moment at which a copy may be made",
    "toolkit/models/test_freeing.py": "a process of its own fills and frees 300 MB",
    "toolkit/plan/test_step_memory.py": "every operator of large models is counted, on fake tensors",
    "toolkit/quantize/test_fill.py::test_both_starts_of_a_model_of_400_mb_take_the_quantized_model_and_little_more": (
        "writes 400 MB and quantizes them in processes of their own"
    ),
    "jobs/test_check_json.py::test_a_check_of_known_files_loads_no_model_library": "the first check learns the files",
    "recipes/test_recipes.py": "a copy of the tree gets one of each thing, and trains with it",
    "test_extension_docs.py": "runs the commands of the document",
    "scripts/test_vram_docs.py::test_the_table_of_cards_is_current": "plans every model for every card",
    "scripts/flux2_tiny/test_edit_proof.py": "the tiny model draws",
    "scripts/flux2_tiny/test_proof.py": "the tiny model draws",
}


def mark(items: list[pytest.Item]) -> None:
    """Mark what stands here as slow, and skip what only `make torture` runs."""
    names = (*WHOLE_RUNS, *SLOW)
    for item in items:
        place = item.nodeid.partition("[")[0].removeprefix("tests/")
        if any(place == name or place.startswith(f"{name}::") for name in names):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("torture") and not IS_TORTURE:
            item.add_marker(pytest.mark.skip(reason="`make torture` runs it"))


def is_slow(path: Path) -> bool:
    """Whether every test in a file is slow: it need not even be imported where none of them is wanted."""
    return path.is_relative_to(_TESTS) and path.relative_to(_TESTS).as_posix() in {*WHOLE_RUNS, *SLOW}

"""Which texts images are trained with, in whole runs with the tiny model."""

from __future__ import annotations

from pathlib import Path

from tests.tiny import losses, run_job, write_job

UNLOADED = "train.unload_text_encoder=true"


def test_an_unloaded_encoder_with_cached_texts_trains_the_captions(tmp_path: Path) -> None:
    """Three runs of one step, as only the loss shows what a step was given."""
    first_sample = {"format": "png", "width": 32, "height": 32, "sample_steps": 1, "prompts": ["a red circle"]}
    found = {}
    for name, overrides in {
        "plain": (),
        "both": (UNLOADED, "train.cache_text_embeddings=true", "train.disable_sampling=false"),
        "alone": (UNLOADED,),
    }.items():
        job = write_job(tmp_path, name=name, train={"steps": 1, "batch_size": 4}, first_sample=first_sample)
        assert run_job(job, None, *overrides).status == "done"
        found[name] = losses(tmp_path / "output" / name)
    assert found["both"] == found["plain"]
    assert found["alone"] != found["plain"]
    samples = [path.name.partition("__")[2] for path in (tmp_path / "output" / "both" / "samples").glob("*__*")]
    assert samples == ["000000000_0.png"], "the first samples have a format of their own"

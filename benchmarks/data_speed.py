"""Encoding images, and batches from 10 to 10,000 of them: `python -m benchmarks.data_speed --out FILE`.

All is measured in this process with the tiny model's VAE. Encoding is compared with the same encoder without help
from other threads, in turns on the same photos, each time into an empty cache; a first turn of each is not counted.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2

from benchmarks.data import ROOT, write_images
from benchmarks.setting import setting
from extensions_built_in.diffusion_models.flux2.flux2_model import Flux2TinyModel
from toolkit import files
from toolkit.config import DatasetConfig, ModelConfig
from toolkit.data import BatchPlan, scan_datasets
from toolkit.data.examples import Example
from toolkit.encode import storage
from toolkit.encode.cache import TensorCache
from toolkit.encode.encodings import Encodings
from toolkit.encode.packing import pack, unpack
from toolkit.encode.pictures import ImageEncoder
from toolkit.encode.prompts import PromptEncoder
from toolkit.files import Disk, write_json
from toolkit.json_files import read_json
from toolkit.parallel.ranks import OneProcess
from toolkit.randomness import Draws
from toolkit.train.feed.encoded import Encoded
from toolkit.train.feeder import Feeder, FeedSettings
from toolkit.weights.tensor_files import checksum
from toolkit.weights.tensor_index import map_bytes

COUNTS, FETCHES = (10, 100, 1_000, 10_000), 400


@dataclass(frozen=True)
class Size:
    """The shapes of what is encoded of an image: latents [C, h, w] in fp32, and a text [L, D] as it is kept."""

    name: str
    latents: tuple[int, int, int]
    text: tuple[int, int]
    dtype: torch.dtype = torch.float32


TINY = Size("tiny, 64 px", (64, 4, 4), (48, 192))
KLEIN = Size("klein 4B, 1024 px", (128, 64, 64), (512, 3072), torch.bfloat16)


def tiny(dtype: torch.dtype = torch.float32) -> Flux2TinyModel:
    """The tiny model, with nothing loaded."""
    section = {"name_or_path": str(ROOT / "assets" / "flux2_tiny"), "arch": "flux2_tiny"}
    return Flux2TinyModel(ModelConfig.model_validate(section), device=torch.device("cpu"), dtype=dtype)


def examples_of(folder: Path, resolution: int) -> tuple[Example, ...]:
    """The examples of a folder of photos."""
    dataset = DatasetConfig.model_validate({"folder_path": folder, "resolution": resolution})
    return scan_datasets([dataset], divisor_px=16, trigger_word=None).examples


def encode(examples: tuple[Example, ...], cache: Path, model: Flux2TinyModel, *, is_ahead: bool) -> dict[str, float]:
    """Seconds on the clock and of the processor to encode all, one after the other or with other threads' help."""
    encodings = Encodings(print, overflow=cache / "overflow")
    images = ImageEncoder(model, encodings, fingerprint="", backgrounds=[(0, 0, 0)])
    begin, busy = time.perf_counter(), time.process_time()
    if is_ahead:
        images.expect([(example, cache) for example in examples])
    for example in examples:
        images.add(example, folder=cache)
        if not is_ahead:
            encodings.settle()
    encodings.settle()
    return {"wall_s": time.perf_counter() - begin, "processor_s": time.process_time() - busy}


def encoding(folder: Path, *, count: int, resolution: int, turns: int) -> dict[str, Any]:
    """Images per second, one after the other and ahead."""
    write_images(folder / "photos", count)
    examples, model = examples_of(folder / "photos", resolution), tiny()
    model.load("vae")
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for turn in range(turns + 1):
        for is_ahead in (False, True) if turn % 2 else (True, False):
            with torch.inference_mode(), tempfile.TemporaryDirectory(dir=folder) as cache:
                found[is_ahead].append(encode(examples, Path(cache), model, is_ahead=is_ahead))
    rows = {
        name: {
            key: round(statistics.median(turn[key] for turn in found[is_ahead][1:]), 3) for key in found[is_ahead][0]
        }
        for name, is_ahead in (("one after the other", False), ("ahead", True))
    }
    pairs = zip(found[False][1:], found[True][1:], strict=True)
    ratio = statistics.median(one["wall_s"] / other["wall_s"] for one, other in pairs)
    for row in rows.values():
        row["images_per_s"] = round(count / row["wall_s"], 2)
    return {"images": count, "resolution": resolution, "turns": turns, **rows, "ratio": round(ratio, 3)}


def batched(vae: Any, side_px: int, *, rounds: int) -> dict[str, Any]:
    """Processor time per picture of a VAE's encoder, one at a time and four together, and whether bits are equal."""
    pixels = torch.rand(4, 3, side_px, side_px, generator=torch.Generator().manual_seed(0)) * 2 - 1
    arms: dict[str, Callable[[], torch.Tensor]] = {
        "one_at_a_time": lambda: torch.cat([vae.encode(one[None]).latent_dist.mode() for one in pixels]),
        "four_together": lambda: vae.encode(pixels).latent_dist.mode(),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    made = {}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for name, encode_four in arms.items():
                busy = time.process_time()
                made[name] = encode_four()
                times[name].append((time.process_time() - busy) / 4)
    found = {f"{name}_processor_s": round(statistics.median(values[1:]), 4) for name, values in times.items()}
    return {"side_px": side_px, **found, "equal_bits": torch.equal(*made.values())}


class _Unsynced(Disk):
    """Waits for no drive, because only reading is measured."""

    def sync(self, handle: int) -> None:
        return


def feeder_of(examples: tuple[Example, ...], cache: Path, size: Size, make: Callable[[str], torch.Tensor]) -> Feeder:
    """The feeder of a run on examples whose encodings are in a cache folder, made without encoding."""
    files.disk = _Unsynced()
    model, encodings, draws = tiny(size.dtype), Encodings(print, overflow=cache / "overflow"), Draws(0)
    prompts = PromptEncoder(model, encodings, fingerprint="", warn=print)
    images = ImageEncoder(model, encodings, fingerprint="", backgrounds=[(0, 0, 0)])
    for example in examples:
        encodings.add(images._key(example), lambda: make("latents"), folder=cache)
        for prompt in example.texts:
            encodings.add(prompts._key(prompt), lambda: make("text"), folder=cache, is_packed=True)
    encodings.settle()
    plan = BatchPlan(examples, 1, draws)
    return Feeder(model, plan, Encoded(prompts, images), FeedSettings(), draws, OneProcess())


def fetching(folder: Path, counts: Sequence[int], size: Size, *, in_memory: bool) -> dict[str, Any]:
    """Milliseconds to make a batch of one, for each number of images; from disk, nothing is kept in memory."""
    latents, text = torch.randn(size.latents), torch.randn(size.text).to(size.dtype)
    limit, found = storage.MEMORY_LIMIT_BYTES, {}
    for count in counts:
        place = folder / f"{count}"
        if not place.exists():
            write_images(place / "photos", count)
        examples = examples_of(place / "photos", 64)
        feeder = feeder_of(examples, place / size.name, size, lambda kind: latents if kind == "latents" else text)
        storage.MEMORY_LIMIT_BYTES = limit if in_memory else 0
        for index in range(count if in_memory else 0):  # the first epoch
            feeder.batch(index)
        times = []
        for index in range(count, count + FETCHES):
            begin = time.perf_counter()
            feeder.batch(index)
            times.append(1000 * (time.perf_counter() - begin))
        storage.MEMORY_LIMIT_BYTES = limit
        found[str(count)] = {
            "median_ms": round(statistics.median(times), 3),
            "mean_ms": round(statistics.fmean(times), 3),
            "slowest_ms": round(max(times), 3),
        }
        print(size.name, "memory" if in_memory else "disk", count, found[str(count)], flush=True)
    return found


def entries(folder: Path, count: int, size: Size) -> dict[str, Any]:
    """Milliseconds to read the latents of an image: from a file of its own, and as a piece of one mapped file of all.

    Both are copied out and compared with their checksum, as what is kept in memory must be. What reading a text takes
    is measured without its file: unpacking it from memory.
    """
    files.disk = _Unsynced()
    folder.mkdir()
    cache, shard, latents = TensorCache(folder / "files", is_lasting=False), folder / "shard", torch.randn(size.latents)
    with shard.open("wb") as file:
        for index in range(count):
            cache.put(f"latents_{index}", {"tensor": latents})
            file.write(latents.numpy().data)
    whole, crc = map_bytes(shard, 0, count * latents.nbytes), checksum(latents)
    packed = pack(torch.randn(size.text).to(size.dtype))

    def from_shard(index: int) -> None:
        part = whole[index * latents.nbytes :][: latents.nbytes].view(torch.float32).view(size.latents).clone()
        assert checksum(part) == crc

    arms: dict[str, Callable[[int], object]] = {
        "file_ms": lambda index: cache.get(f"latents_{index}"),
        "piece_of_a_mapped_file_ms": from_shard,
        "unpacking_a_text_ms": lambda index: unpack(packed),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    for index in random.Random(0).sample(range(count), min(count, FETCHES)):
        for name, read in arms.items():
            begin = time.perf_counter()
            read(index)
            times[name].append(1000 * (time.perf_counter() - begin))
    return {"entries": count, **{name: round(statistics.median(values), 3) for name, values in times.items()}}


def noise_ms(size: Size) -> float:
    """Milliseconds to draw the noise of a sample."""
    draws, times = Draws(0), []
    for index in range(FETCHES // 4):
        begin = time.perf_counter()
        draws.normal((1, *size.latents), "noise", index)
        times.append(1000 * (time.perf_counter() - begin))
    return round(statistics.median(times), 3)


def main() -> None:
    """Measure both, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("encoding", "batches", "fetching", "entries"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="images to fetch batches of")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--out", type=Path, help="JSON file; figures are added to those in it")
    arguments = parser.parse_args()
    results: dict[str, Any] = read_json(arguments.out) if arguments.out and arguments.out.exists() else {}
    results |= setting(on_card=False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.only in (None, "entries"):
            for size, count in ((TINY, max(arguments.counts)), (KLEIN, 100)):
                results[f"entries, {size.name}"] = entries(folder / f"entries, {size.name}", count, size)
                print(size.name, results[f"entries, {size.name}"], flush=True)
        if arguments.only in (None, "encoding"):
            results["encoding"] = encoding(
                folder / "encoding", count=arguments.images, resolution=arguments.resolution, turns=arguments.turns
            )
            print(json.dumps(results["encoding"], indent=2), flush=True)
        if arguments.only in (None, "batches"):
            model = tiny()
            model.load("vae")
            torch.manual_seed(0)
            vaes = (("tiny", model.vae, 64, 20), ("FLUX.2's size", AutoencoderKLFlux2().eval(), 128, 2))
            results["batches"] = {name: batched(vae, side_px, rounds=n) for name, vae, side_px, n in vaes}
            print(results["batches"], flush=True)
        if arguments.only in (None, "fetching"):
            for name, in_memory in (("from disk", False), ("in memory", True)):
                found = fetching(folder, arguments.counts, TINY, in_memory=in_memory)
                results[name] = results.get(name, {}) | found
            large = {place: fetching(folder, (10,), KLEIN, in_memory=place == "memory") for place in ("disk", "memory")}
            results[KLEIN.name] = {**large, "noise_ms": noise_ms(KLEIN)}
    if arguments.out:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()

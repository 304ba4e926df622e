"""toolkit.lora.verify, through what a training saves"""

from pathlib import Path

import pytest
import torch

from tests.golden.models import transformer
from tests.tiny import tiny_model
from toolkit.config import NetworkConfig
from toolkit.errors import UserError
from toolkit.lora.files import read_lora_file
from toolkit.lora.update import Update
from toolkit.lora.verify import verify
from toolkit.networks.network import Network
from toolkit.randomness import Draws
from toolkit.train.trainable import NetworkWeights
from toolkit.weights.tensor_files import read_tensors, write_tensors

FORMATS = ("bfl", "diffusers", "kohya")


def _network(*, factor: float = 0.05, **options: object) -> Network:
    """A LoRA on the reference's tiny model, as different from its start as after a training."""
    model = tiny_model()
    model.transformer = transformer("dev")
    network = Network(model, NetworkConfig.model_validate({"linear": 4, **options}), Draws(7))
    network.apply()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * factor)
    return network


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("file_format", FORMATS)
def test_what_is_saved_is_what_is_live(file_format: str, dtype: torch.dtype, tmp_path: Path) -> None:
    trained = NetworkWeights(_network(linear_alpha=2), file_format=file_format)
    (path,) = trained.save(tmp_path / "lora", dtype=dtype, metadata={})
    assert {t.dtype for key, t in read_tensors(path).items() if "alpha" not in key} == {dtype}
    assert read_lora_file(path).updates.keys() == {target.name for target in trained.network.targets}


def test_an_untrained_network_is_saved(tmp_path: Path) -> None:
    NetworkWeights(_network(factor=0.0)).save(tmp_path / "lora", dtype=torch.bfloat16, metadata={})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fault", ["scale", "order", "missing", "more", "nan"])
def test_a_file_that_says_something_else_is_found_out(fault: str, dtype: torch.dtype, tmp_path: Path) -> None:
    network = _network()
    state = network.state_dict(dtype)
    name = "diffusion_model.double_blocks.1.img_attn.qkv.lora_B.weight"
    if fault == "scale":
        state[name] = state[name] * 1.1
    elif fault == "order":  # q and k exchanged
        state[name] = torch.cat([state[name].chunk(3)[i] for i in (1, 0, 2)])
    elif fault == "missing":
        del state[name], state[name.replace("lora_B", "lora_A")]
    elif fault == "more":
        state |= {f"diffusion_model.img_in.lora_{part}.weight": torch.ones(4, 4) for part in "AB"}
    else:
        state[name][0, 0] = float("nan")
    write_tensors(tmp_path / "lora.safetensors", state)
    with pytest.raises(UserError, match=r"not saved.*(double_blocks|transformer_blocks\.1\.attn|img_in)"):
        verify(tmp_path / "lora.safetensors", network.updates(), network.model.locate_layer, dtype=dtype)


def test_a_failed_save_keeps_the_file_before(tmp_path: Path) -> None:
    network = _network()
    trained = NetworkWeights(network)
    (path,) = trained.save(tmp_path / "lora", dtype=torch.float16, metadata={})
    before = path.read_bytes()
    with torch.no_grad():
        network.parameters()[1].fill_(1e6)  # more than fp16 can hold
    with pytest.raises(UserError, match=r"save\.dtype: bf16"):
        trained.save(tmp_path / "lora", dtype=torch.float16, metadata={})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_fp32_files_are_compared_to_a_millionth(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    live = Update(torch.randn(1, 64, generator=generator), torch.randn(64, 1, generator=generator))
    name, place = "single_blocks.0.linear2", _network().model.locate_layer
    for factor, is_fine in ((1 + 5e-7, True), (1 + 5e-6, False)):
        state = {f"{name}.lora_A.weight": live.a, f"{name}.lora_B.weight": live.b * factor}
        write_tensors(tmp_path / "lora.safetensors", state)
        if is_fine:
            verify(tmp_path / "lora.safetensors", {name: live}, place, dtype=torch.float32)
        else:
            with pytest.raises(UserError, match="differs"):
                verify(tmp_path / "lora.safetensors", {name: live}, place, dtype=torch.float32)

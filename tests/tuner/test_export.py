"""Folders that stock PEFT and PEFT with fedlease load, and reading stock folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tuner_models import randomise, tiny, tokens

from fedlease.core.adapter import Adapter, Model
from fedlease.core.errors import FedLeaseError
from fedlease.tuner import FedLeaseConfig, FedLeaseLayer, read_lora, save_lora, save_mixture

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(**tokens()).logits


def as_core(model: PeftModel) -> Model:
    """What an adapted model would be in the project's own terms."""
    weights = {}
    for name, layer in model.get_base_model().named_modules():
        if isinstance(layer, FedLeaseLayer):
            for part, tensor in zip(("A", "B", "router"), layer.read("default"), strict=True):
                if tensor is not None:
                    weights[f"{name}.{part}"] = tensor
    return Model(model.peft_config["default"].adapter, weights)


def adapted(kind: str, **options: object) -> PeftModel:
    model = get_peft_model(tiny(kind), FedLeaseConfig(r=2, lora_alpha=6.0, **options))
    randomise(model)
    return model


# One module of each layer only, so that suffixes would match too much.
ONE = {"target_modules": ["layers.0.self_attn.q_proj", "layers.1.self_attn.v_proj"]}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")  # stock LoRA says so for every Conv1D
@pytest.mark.parametrize(("kind", "options"), [("roberta", {}), ("llama", ONE), ("gpt2", {})])
def test_stock_peft_loads_one_expert(tmp_path: Path, kind: str, options: dict[str, object]) -> None:
    ours = adapted(kind, **options)
    save_lora(as_core(ours), tmp_path / "a" / "b", "some/base", task_type="FEATURE_EXTRACTION")
    config = json.loads((tmp_path / "a" / "b" / CONFIG).read_text())
    assert (config["peft_type"], config["base_model_name_or_path"]) == ("LORA", "some/base")
    stock = PeftModel.from_pretrained(tiny(kind), str(tmp_path / "a" / "b"))
    assert torch.equal(logits(stock), logits(ours))
    assert not torch.allclose(logits(stock), logits(tiny(kind)))
    adapted_by_stock = {name for name, module in stock.named_modules() if hasattr(module, "lora_A")}
    assert adapted_by_stock == {
        name for name, module in ours.named_modules() if isinstance(module, FedLeaseLayer)
    }
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [CONFIG, TENSORS]


@pytest.mark.parametrize(
    "options",
    [
        {"num_experts": 1},
        {"num_experts": 12, "assigned_expert": 11},
        {"num_experts": 3, "assigned_expert": 1, "top_k": 2, "normalize_weights": True, **ONE},
    ],
)
def test_a_mixture_is_loaded_again(tmp_path: Path, options: dict[str, object]) -> None:
    ours = adapted("llama", **options)
    save_mixture(as_core(ours), tmp_path, "some/base")
    loaded = PeftModel.from_pretrained(tiny("llama"), str(tmp_path))
    assert torch.equal(logits(loaded), logits(ours))
    assert as_core(loaded).adapter == as_core(ours).adapter
    names = [name for name, module in loaded.named_modules() if isinstance(module, FedLeaseLayer)]
    assert names == [name for name, module in ours.named_modules() if isinstance(module, FedLeaseLayer)]


def test_written_again_over_an_older_folder(tmp_path: Path) -> None:
    save_mixture(as_core(adapted("bert", num_experts=2)), tmp_path, "old")
    new = as_core(adapted("bert"))
    save_lora(new, tmp_path, "new")
    read = read_lora(tmp_path)
    scale = {"A": 1, "B": new.adapter.alpha / new.adapter.rank}
    assert all(torch.equal(read[name], scale[name[-1]] * tensor) for name, tensor in new.weights.items())
    assert read.keys() == new.weights.keys()


def test_a_failed_write_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = as_core(adapted("bert"))
    save_lora(old, tmp_path, "old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedlease.core.files.os.fsync", fail)
    changed = Model(old.adapter, {name: tensor + 1 for name, tensor in old.weights.items()})
    with pytest.raises(FedLeaseError, match="No space"):
        save_lora(changed, tmp_path, "new")
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, TENSORS]
    assert json.loads((tmp_path / CONFIG).read_text())["base_model_name_or_path"] == "old"
    assert torch.equal(read_lora(tmp_path)[next(iter(old.weights))], next(iter(old.weights.values())))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FedLeaseError, match="file"):
        save_lora(as_core(adapted("bert")), tmp_path / "file", "base")


def good(experts: int = 1) -> dict[str, Tensor]:
    stacked = (experts,) if experts > 1 else ()
    weights = {"q.A": torch.randn(*stacked, 2, 5), "q.B": torch.randn(*stacked, 4, 2)}
    return weights | ({"q.router": torch.randn(2 * experts - 1, 5)} if experts > 1 else {})


@pytest.mark.parametrize(
    ("change", "experts", "says"),
    [
        ({"q.A": None}, 1, "parts"),
        ({"k.C": torch.zeros(1)}, 1, "k has the parts"),
        ({"q.A": torch.zeros(3, 5)}, 1, r"q\.A"),
        ({"q.B": torch.zeros(4, 3)}, 1, r"q\.B"),
        ({"q.router": None}, 3, "parts"),
        ({"q.router": torch.zeros(3, 5)}, 3, r"q\.router"),
        ({"q.A": torch.zeros(2, 2, 5)}, 3, r"q\.A"),
        ({"q.B": torch.zeros(4, 2)}, 3, r"q\.B"),
        ({"q.B": torch.zeros(4)}, 1, r"q\.B"),
        ({"q.A": None, "q.B": None}, 1, "no weights"),
    ],
)
def test_weights_that_do_not_fit_are_not_written(
    tmp_path: Path, change: dict[str, Tensor | None], experts: int, says: str
) -> None:
    weights = {name: tensor for name, tensor in (good(experts) | change).items() if tensor is not None}
    with pytest.raises(FedLeaseError, match=says):
        save_mixture(Model(Adapter(2, experts=experts), weights), tmp_path / "x", "base")
    assert not (tmp_path / "x").exists()


def test_several_experts_are_no_lora(tmp_path: Path) -> None:
    with pytest.raises(FedLeaseError, match="3"):
        save_lora(Model(Adapter(2, experts=3), good(3)), tmp_path, "base")


def test_reads_what_stock_peft_saved(tmp_path: Path) -> None:
    config = LoraConfig(
        r=2, target_modules=["query", "value"], rank_pattern={"value": 3}, modules_to_save=["classifier"]
    )
    stock = get_peft_model(tiny("bert"), config)
    randomise(stock)
    stock.save_pretrained(str(tmp_path))
    read = read_lora(tmp_path)
    assert len(read) == 8
    for name, tensor in read.items():
        path, part = name.rsplit(".", 1)
        kept = stock.base_model.model.get_submodule(path)
        scale = 8 / {"query": 2, "value": 3}[path.rpartition(".")[2]] if part == "B" else 1
        assert torch.equal(tensor, scale * getattr(kept, f"lora_{part}")["default"].weight)
    assert read["bert.encoder.layer.0.attention.self.query.A"].shape == (2, 16)
    assert read["bert.encoder.layer.1.attention.self.value.A"].shape == (3, 16)


@pytest.mark.filterwarnings("ignore:Using Rank-Stabilized:UserWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"lora_alpha": 16},
        {"lora_alpha": 3.5, "use_rslora": True},
        {
            "lora_alpha": 16,
            "rank_pattern": {"value": 3, "layer.0.attention.self.query": 5},
            "alpha_pattern": {"query": 6, r"layer\.1\..*value": 40},
        },
    ],
)
def test_b_a_is_the_update_that_stock_peft_adds(tmp_path: Path, options: dict[str, object]) -> None:
    stock = get_peft_model(tiny("bert"), LoraConfig(r=4, target_modules=["query", "value"], **options))
    randomise(stock)
    stock.save_pretrained(str(tmp_path))
    read = read_lora(tmp_path)
    paths = {name[:-2] for name in read}
    assert len(paths) == 4
    for path in paths:
        update = stock.base_model.model.get_submodule(path).get_delta_weight("default")
        torch.testing.assert_close(read[f"{path}.B"] @ read[f"{path}.A"], update)


@pytest.mark.parametrize("alpha", ["16", None, True, float("inf")])
def test_an_alpha_that_is_no_number(tmp_path: Path, alpha: object) -> None:
    save_lora(Model(Adapter(2), good()), tmp_path, "base")
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**config, "lora_alpha": alpha}))
    with pytest.raises(FedLeaseError, match=r"adapter_config.json: q has lora_alpha"):
        read_lora(tmp_path)


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    save_lora(Model(Adapter(2), good()), tmp_path, "base")
    halved = {key: tensor.bfloat16() for key, tensor in load_file(tmp_path / TENSORS).items()}
    save_file(halved, tmp_path / TENSORS)
    assert {tensor.dtype for tensor in read_lora(tmp_path).values()} == {torch.float32}


A, B = "base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight"


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({A: (2, 5)}, "q has no lora_B"),
        ({B: (4, 2)}, "q has no lora_A"),
        ({A: (2, 5), B: (4, 3)}, "two ranks"),
        ({A: (2, 5, 1, 1), B: (4, 2, 1, 1)}, "plain LoRA"),
        ({A: (2, 5), B: (4, 2), "base_model.model.q.lora_magnitude_vector": (4,)}, "magnitude"),
        ({"base_model.model.classifier.weight": (2, 2)}, "no LoRA tensors"),
    ],
)
def test_tensors_that_are_no_plain_lora(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], says: str
) -> None:
    save_lora(Model(Adapter(2), good()), tmp_path, "base")
    save_file({key: torch.zeros(shape) for key, shape in tensors.items()}, tmp_path / TENSORS)
    with pytest.raises(FedLeaseError, match=says) as caught:
        read_lora(tmp_path)
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FedLeaseError, match=CONFIG):
        read_lora(tmp_path / "nowhere")
    save_mixture(Model(Adapter(2, experts=3), good(3)), tmp_path, "base")
    with pytest.raises(FedLeaseError, match="FEDLEASE"):
        read_lora(tmp_path)
    save_lora(Model(Adapter(2), good()), tmp_path, "base")
    whole = (tmp_path / TENSORS).read_bytes()
    (tmp_path / TENSORS).write_bytes(whole[:40])
    with pytest.raises(FedLeaseError, match="safetensors"):
        read_lora(tmp_path)
    (tmp_path / TENSORS).unlink()
    with pytest.raises(FedLeaseError, match="no such file"):
        read_lora(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(FedLeaseError, match="pickle"):
        read_lora(tmp_path)
    for broken in ("{", "[]"):
        (tmp_path / CONFIG).write_text(broken)
        with pytest.raises(FedLeaseError, match=CONFIG):
            read_lora(tmp_path)

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from fedlease.allocation import cluster
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.allocate import allocate

NAMES = [f"encoder.layer.{i}.attention.{part}" for i in range(3) for part in ("query", "value")]


def clients(tasks=(0, 0, 0, 1, 1), seed=0):
    random = torch.Generator().manual_seed(seed)
    means = {(task, name): torch.randn(8, 2, generator=random) for task in set(tasks) for name in NAMES}
    first = {name: torch.randn(2, 6, generator=random) for name in NAMES}
    held = {}
    for number, task in enumerate(tasks):
        held[f"client-{number}"] = {f"{name}.A": first[name] for name in NAMES} | {
            f"{name}.B": means[task, name] + 0.5 * torch.randn(8, 2, generator=random) for name in NAMES
        }
    return held


def peft_names(weights, adapter=""):
    return {
        f"base_model.model.{key[:-2]}.lora_{key[-1]}{adapter}.weight": tensor
        for key, tensor in weights.items()
    }


def write_folder(folder, weights, **changes):
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 16, "target_modules": ["query", "value"], **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(peft_names(weights), folder / "adapter_model.safetensors")
    return folder


def test_state_dicts_in_either_naming_give_the_same():
    expected = cluster(clients())
    assert expected.labels == (0, 0, 0, 1, 1)
    assert allocate(clients()) == expected
    assert allocate({c: peft_names(w) for c, w in clients().items()}) == expected
    assert allocate({c: peft_names(w, ".default") for c, w in clients().items()}) == expected


def test_options_reach_the_clustering():
    options = {"distance": "b", "centered": False, "min_experts": 2}
    assert allocate(clients(), 3, **options) == cluster(clients(), max_experts=3, **options)
    assert allocate(clients(), num_experts=4).num_experts == 4


def test_a_head_in_the_state_dict_is_left_aside():
    heads = {c: w | {"base_model.model.classifier.weight": torch.ones(2, 6)} for c, w in clients().items()}
    assert allocate(heads) == cluster(clients())


def test_folders_are_named_by_folder(tmp_path):
    folders = [write_folder(tmp_path / client, weights) for client, weights in clients().items()]
    assert allocate(folders) == cluster(clients())
    assert allocate({"z": folders[4], "a": str(folders[0]), "b": clients()["client-1"]}).clients == (
        "a",
        "b",
        "z",
    )


def padded(weights, rank):
    """The same B A, with rows of A and columns of B that are zero up to this rank."""
    pad = {"A": lambda missing: (0, 0, 0, missing), "B": lambda missing: (0, missing)}
    return {
        key: torch.nn.functional.pad(tensor, pad[key[-1]](rank - min(tensor.shape)))
        for key, tensor in weights.items()
    }


def test_folders_are_compared_by_the_update_their_config_makes(tmp_path):
    first, *_, other = clients().values()
    halved = {key: tensor / 2 if key.endswith(".B") else tensor for key, tensor in first.items()}
    folders = [
        write_folder(tmp_path / "r4", padded(first, 4), r=4, lora_alpha=16),
        write_folder(tmp_path / "r8", padded(first, 8), r=8, lora_alpha=32),
        write_folder(tmp_path / "halved", halved, r=2, lora_alpha=16),
        write_folder(tmp_path / "rs", padded(first, 4), r=4, lora_alpha=8, use_rslora=True),
        write_folder(tmp_path / "other", other),
    ]
    allocation = allocate(folders)
    same = [allocation.clients.index(name) for name in ("r4", "r8", "halved", "rs")]
    assert allocation.distances[same][:, same].max() < 1e-12
    assert allocation.distances[same[0], allocation.clients.index("other")] > 0.1


def test_alpha_counts_where_the_mean_is_taken_out(tmp_path):
    held = clients()
    folders = [
        write_folder(tmp_path / client, weights, lora_alpha=4 * (number + 1))
        for number, (client, weights) in enumerate(held.items())
    ]
    scaled = {
        client: {key: tensor * (2 * (number + 1) if key[-1] == "B" else 1) for key, tensor in weights.items()}
        for number, (client, weights) in enumerate(held.items())
    }
    assert abs(allocate(folders).distances - cluster(scaled).distances).max() < 1e-6
    assert abs(cluster(held).distances - cluster(scaled).distances).max() > 0.01


def test_equal_folder_names_take_as_many_parents_as_they_need(tmp_path):
    weights = list(clients().values())
    places = ["x/run/adapter", "y/run/adapter", "other/adapter", "single"]
    folders = [write_folder(tmp_path / place, own) for place, own in zip(places, weights, strict=False)]
    assert allocate(folders).clients == ("other/adapter", "single", "x/run/adapter", "y/run/adapter")


def test_a_folder_given_twice_is_refused(tmp_path):
    folders = [write_folder(tmp_path / client, weights) for client, weights in clients().items()]
    with pytest.raises(FedLeaseError, match="client-0 is given twice"):
        allocate([*folders, tmp_path / "client-1" / ".." / "client-0"])


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FedLeaseError, match="nowhere"):
        allocate([tmp_path / "nowhere", tmp_path / "nor-here"])


def test_one_folder_alone_is_refused():
    with pytest.raises(FedLeaseError, match="'runs/a' is one adapter: give a list"):
        allocate("runs/a")


def test_two_adapters_in_one_state_dict_are_refused():
    held = clients()
    held["client-2"] = peft_names(held["client-2"], ".default") | peft_names(held["client-2"], ".other")
    with pytest.raises(FedLeaseError, match="client 'client-2' has two adapters for"):
        allocate(held)


def test_other_kinds_of_lora_are_refused():
    held = clients()
    held["client-2"]["base_model.model.x.lora_embedding_A.default"] = torch.ones(2, 6)
    with pytest.raises(FedLeaseError, match=r"client 'client-2'.*is not a part of plain LoRA"):
        allocate(held)


def test_state_dicts_need_no_peft():
    loaded = "'peft' in sys.modules or 'transformers' in sys.modules"
    code = f"import sys, fedlease.experiments.allocate; print({loaded})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"

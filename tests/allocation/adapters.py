"""Small adapters with a known structure."""

import torch

MODULES = {f"layer.{i}.{part}": (12, 10) for i in range(4) for part in ("query", "value")}

LARGE = dict.fromkeys(MODULES, (96, 80))
"""As many numbers a module as it takes for unlike noise to be nearly orthogonal, as in a real model."""


def planted(sizes, noise, seed, rank=2, modules=MODULES, common=1.0):
    """Clients of len(sizes) tasks: B is a part all share, a part of the task, and noise of the client.

    A is near one first A, as after training from a common start. Clients' names sort by task.
    """
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=random)

    first = {name: draw(rank, d) for name, (_, d) in modules.items()}
    shared = {name: common * draw(out, rank) for name, (out, _) in modules.items()}
    clients, tasks = {}, []
    for task, size in enumerate(sizes):
        mean = {name: draw(out, rank) for name, (out, _) in modules.items()}
        for _ in range(size):
            weights = {}
            for name, (out, d) in modules.items():
                weights[f"{name}.A"] = first[name] + 0.02 * draw(rank, d)
                weights[f"{name}.B"] = shared[name] + mean[name] + noise * draw(out, rank)
            clients[f"client-{len(tasks):02d}"] = weights
            tasks.append(task)
    return clients, tuple(tasks)


def ragged(ranks, seed):
    """Clients without structure whose ranks differ."""
    random = torch.Generator().manual_seed(seed)
    return {
        f"client-{number:02d}": {
            key: tensor
            for name, (out, d) in MODULES.items()
            for key, tensor in (
                (f"{name}.A", torch.randn(rank, d, generator=random)),
                (f"{name}.B", torch.randn(out, rank, generator=random)),
            )
        }
        for number, rank in enumerate(ranks)
    }

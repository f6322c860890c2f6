"""How a machine computes a model fastest: number format, attention kernel, rows at once; by measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import torch
from torch import Tensor

from fedlease.core.adapter import Adapter, Model, lora_init
from fedlease.core.errors import FedLeaseError
from fedlease.data.files import one_line
from fedlease.training.precision import Timings, choose
from fedlease.training.resident import Resident
from fedlease.training.specimen import LABELS, numbers, specimen

FORMATS, KERNELS = ("float32", "bfloat16"), ("sdpa", "eager")

SIZES = (16, 32, 64, 128)
"""Rows at once that are tried."""

RANK = 8

WORK = 4e9
"""Multiplications of a step that formats and kernels are told apart by; rows are fewer in a large model."""

LARGEST = 8 * WORK
"""Multiplications beyond which a number of rows is not tried: it would take too long."""

HOPELESS, LONG = 2.0, 1.0
"""A format of which a step took so many times as long as the fastest, and so many seconds, is given up."""


@dataclass
class Stopwatch:
    """The shortest time of each of several things, taken in turn: so other work on the machine weighs little.

    Of one thread it is the time that the processor gave it.

    Attributes:
        tell: told what is timed next.
        seconds: by name.
    """

    tell: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    def take(self, name: str, work: Callable[[], None]) -> float:
        """Time something once more."""
        self.tell(name)
        clock = thread_time if torch.get_num_threads() == 1 else perf_counter
        began = clock()
        work()
        taken = clock() - began
        self.seconds[name] = min(taken, self.seconds.get(name, taken))
        return taken


def measure(
    name: str,
    threads: int,
    *,
    targets: Sequence[str] | None = None,
    beside: Path | None = None,
    rows: int = 16,
    tokens: int = 64,
    repeats: int = 3,
    score: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Timings:
    """Time plain LoRA on a layer of a model on the CPU, each way in turn; the shortest times count.

    First every number format with every attention kernel; then, in what `choose` makes of that, numbers of
    rows at once.

    Args:
        name: of the model, see `resolve`.
        threads: of this process while it measures.
        targets, beside: see `specimen`.
        rows, tokens: of the batch that formats and kernels are compared on; rows are fewer in a large model.
        repeats: how often each way is timed.
        score: time scoring by rows at once, too.
        tell: told what is timed next.

    Raises:
        FedLeaseError: the model is not there, or cannot be measured; in one line.
    """
    with _aside(name, threads):
        ways = {precision: _Way(name, precision, targets, beside, tokens) for precision in FORMATS}
        count = max(1, min(rows, int(WORK / (ways[FORMATS[0]].numbers * tokens))))
        step = _formats(ways, choose("cpu").way, count, repeats, tell)
        plan = choose("cpu", timings=Timings(step))
        way = ways[plan.precision]
        sizes = [size for size in SIZES if size * tokens * way.numbers <= LARGEST]
        kinds = {"train": way.train, **({"score": way.score} if score else {})}
        found = _sizes(kinds, plan.attention, sizes, repeats, tell)
        return Timings(step, plan.way, **found)


@contextmanager
def _aside(name: str, threads: int) -> Iterator[None]:
    """So many threads meanwhile; the global random numbers stay as they were; any error is one line."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except FedLeaseError:
        raise
    except Exception as error:  # an architecture that wants other inputs fails in its own way
        raise FedLeaseError(f"model {name!r} cannot be measured: {one_line(error)}") from error
    finally:
        torch.set_num_threads(before)


def _formats(
    ways: dict[str, _Way], usual: str, rows: int, repeats: int, tell: Callable[[str], None]
) -> dict[str, float]:
    """Time every format with every kernel; those without hope once, or not at all, but the usual one is."""
    watch = Stopwatch(tell)
    hopeless: set[str] = set()
    for way in ways.values():
        for kernel in KERNELS:
            way.train(kernel, 1)  # the first time prepares much
    for precision, kernel in [*product(FORMATS, KERNELS)] * repeats:
        name = f"{precision} {kernel}"
        if precision in hopeless and (name != usual or name in watch.seconds):
            continue
        taken = watch.take(name, partial(ways[precision].train, kernel, rows))
        if taken > max(LONG, HOPELESS * min(watch.seconds.values())):
            hopeless.add(precision)
    return watch.seconds


def _sizes(
    kinds: Mapping[str, Callable[[str, int], None]],
    kernel: str,
    sizes: Sequence[int],
    repeats: int,
    tell: Callable[[str], None],
) -> dict[str, dict[int, float]]:
    """Seconds a row, by rows at once, of each kind of work."""
    watch = Stopwatch(tell)
    for size, (kind, work) in [*product(sizes, kinds.items())] * repeats:
        watch.take(f"{kind} {size}", partial(work, kernel, size))
    return {kind: {size: watch.seconds[f"{kind} {size}"] / size for size in sizes} for kind in kinds}


class _Way:
    """A layer of the base in one number format, with an adapter that trains on it."""

    def __init__(
        self, name: str, precision: str, targets: Sequence[str] | None, beside: Path | None, tokens: int
    ) -> None:
        base = specimen(name, precision, targets, beside)
        self.numbers, self._tokens = numbers(base), tokens
        resident = Resident(base)
        model = Model(Adapter(RANK), lora_init(base.modules, RANK, 0))
        self._network: Any = resident.put(model, LABELS)
        self._parameters = resident.learn(model.adapter, ("A", "B"))

    def train(self, kernel: str, rows: int) -> None:
        """Go forwards and backwards."""
        self._network.train().set_attn_implementation(kernel)
        self._network(**self._batch(rows)).loss.backward()
        for parameter in self._parameters:
            parameter.grad = None

    def score(self, kernel: str, rows: int) -> None:
        """Go forwards alone."""
        self._network.eval().set_attn_implementation(kernel)
        with torch.inference_mode():
            self._network(**self._batch(rows))

    def _batch(self, rows: int) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(0)
        words = self._network.config.get_text_config().vocab_size
        ids = torch.randint(1, words, (rows, self._tokens), generator=draw)
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": torch.arange(rows) % LABELS,
        }

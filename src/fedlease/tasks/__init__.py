"""What a data set means: encode, batch, train on, score. A task is whatever has what `Task` asks for."""

from __future__ import annotations

from collections.abc import Mapping

from fedlease.tasks import classification
from fedlease.tasks.base import Task
from fedlease.tasks.generation import Generation

TASKS: Mapping[str, Task] = {"classification": classification, "generation": Generation()}
"""Every kind of task by the name specs use, with its defaults."""

"""What a data set means: encode, batch, score. A task is a module with the functions of `Task`."""

from __future__ import annotations

from collections.abc import Mapping

from fedlease.tasks import classification
from fedlease.tasks.base import Task

TASKS: Mapping[str, Task] = {"classification": classification}
"""Every kind of task by the name specs use."""

"""What a site keeps between rounds, on its own disk, in versions: none is lost, none is used twice."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import make_folder, write_bytes
from fedlease.core.held import restored
from fedlease.core.protocols import Message
from fedlease.core.rounding import WireForm, unpacked
from fedlease.core.weights import Weights


@dataclass(frozen=True)
class Memory:
    """The versions of one run's private memory: a file each, written whole or not at all.

    Attributes:
        folder: of this run at this site.
    """

    folder: Path

    def load(self, version: str) -> Weights:
        """Return a version; an empty one for no name, which is a client that was never reached.

        Raises:
            FedLeaseError: it is not there, or damaged: work from something else would be silently wrong.
        """
        if not version:
            return {}
        path = self._path(version)
        if not path.is_file():
            raise FedLeaseError(f"{path} is gone, and the server goes on from it: restore it from a backup")
        try:
            with safe_open(path, "pt") as file:
                # in the order it was written: what is summed over tensors must not depend on a restart
                return {name: file.get_tensor(name) for name in json.loads(file.metadata()["names"])}
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise FedLeaseError(f"{path} is damaged ({error}): restore it from a backup") from error

    def save(self, version: str, weights: Weights) -> None:
        """Write a version.

        Raises:
            FedLeaseError: the disk is full, or cannot be written to; earlier versions stay.
        """
        path = self._path(version)
        make_folder(self.folder)
        tensors = {name: tensor.contiguous().clone() for name, tensor in weights.items()}
        write_bytes(path, save(tensors, metadata={"names": json.dumps(list(weights))}))

    def forget(self, but: Collection[str]) -> None:
        """Remove all versions but these."""
        for path in self.folder.glob("*.safetensors"):
            if path.stem not in but:
                path.unlink(missing_ok=True)

    def _path(self, version: str) -> Path:
        if not re.fullmatch(r"[a-z0-9.-]+", version) or ".." in version:  # it comes from outside
            raise FedLeaseError(f"the server asks for the version {version!r}, which is no name of one")
        return self.folder / f"{version}.safetensors"


@dataclass(frozen=True)
class Memories:
    """The two memories a site has of a run; the server names the version of both.

    Attributes:
        kept: what the method keeps, and what rounding took from uploads: it must not be lost.
        held: what the server sent last under each name, which it does not send again. If it is lost the
            server sends all of it.
    """

    kept: Memory
    held: Memory

    @classmethod
    def of(cls, state: Path, run: str) -> Memories:
        """Those of a run in a site's folder."""
        return cls(Memory(state / "kept" / run), Memory(state / "held" / run))

    def arrived(self, came: Message, version: str, wire: WireForm) -> tuple[Message, Weights]:
        """Return a message as methods see it, and what the site holds with it.

        Raises:
            LackingError: the site does not hold what the message refers to.
        """
        try:
            held = self.held.load(version)
        except FedLeaseError:
            held = {}
        message = restored(unpacked(came, wire), held)
        return message, {**held, **message.weights}

    def remember(self, beside: Mapping[str, Any], kept: Weights, held: Weights) -> None:
        """Write the version that the server calls ``next``.

        Raises:
            FedLeaseError: the disk is full, or cannot be written to; earlier versions stay.
        """
        self.held.save(str(beside["next"]), held)
        self.kept.save(str(beside["next"]), kept)

    def forget(self, beside: Mapping[str, Any]) -> None:
        """Remove the versions that the server does not name."""
        for memory in (self.kept, self.held):
            memory.forget({str(beside[key]) for key in ("kept", "safe", "next")})

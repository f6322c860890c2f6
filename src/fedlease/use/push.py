"""An exported folder on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from fedlease.core.errors import FedLeaseError
from fedlease.data.files import one_line


def push(folder: Path, repo: str) -> str:
    """Upload a folder to a model repository, a new one being private, and return its address.

    Raises:
        FedLeaseError: the hub refuses or cannot be reached; the folder stays as it is.
    """
    import huggingface_hub

    hub = huggingface_hub.HfApi()
    try:
        made = hub.create_repo(repo, private=True, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=str(folder), commit_message="Add an adapter by fedlease")
    except Exception as error:  # of the hub's own kinds, of requests', of the operating system
        raise FedLeaseError(
            f"{folder} is written, but the hub does not take it ({one_line(error)})"
        ) from error
    return str(made)

"""Whether the Hugging Face hub can be used from here."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

HUB = "https://huggingface.co"
PROBE_SECONDS = 3.0


def stay_local(env: Mapping[str, str], probe: Callable[[str], str | None] | None = None) -> None:
    """Let the Hugging Face libraries use what is cached alone when the hub does not answer.

    They would otherwise retry for half a minute, loudly, before they say that something is not there.

    Args:
        env: the environment; nothing is done when it says already that the hub is not to be used.
        probe: given the hub's address, returns None when it answers, else why not; for tests.
    """
    if offline(env) is not None or (probe or unreachable)(env.get("HF_ENDPOINT") or HUB) is None:
        return
    import datasets.config
    import huggingface_hub.constants

    huggingface_hub.constants.HF_HUB_OFFLINE = True
    datasets.config.HF_HUB_OFFLINE = True


def unreachable(address: str) -> str | None:
    """Return why the hub cannot be used, or None when it answers within `PROBE_SECONDS`."""
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                outcome.append(None)
        except urllib.error.HTTPError as error:
            outcome.append(None if error.code < 500 else f"{address} answers with error {error.code}")
        except (OSError, ValueError):
            outcome.append(f"{address} cannot be reached")

    # Looking up a name has no timeout of its own, so the wait is for a thread that may be left behind.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return outcome[0] if outcome else f"{address} does not answer within {PROBE_SECONDS:g} seconds"


def offline(env: Mapping[str, str]) -> str | None:
    """Return which variable says that the hub is not to be used, or None."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        if env.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}:
            return f"{name} is set"
    return None

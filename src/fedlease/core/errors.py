"""The one exception for what a user can put right."""

from __future__ import annotations


class FedLeaseError(Exception):
    """Something the user gave, or the run met, that cannot be gone on with.

    The message is one line that names the file, key, client or round and says what to do. The command
    line prints it and exits with code 2.
    """


class DivergedError(FedLeaseError):
    """Training left the finite numbers: the learning rate is too high for these rows."""

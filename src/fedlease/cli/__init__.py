"""The command line."""

from fedlease.cli.app import main

__all__ = ["main"]

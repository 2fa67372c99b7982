"""The command `adaptune`."""

from search.cli.app import main

__all__ = ["main"]

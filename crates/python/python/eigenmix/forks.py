"""Processes that were forked: the engine's threads are not in them, and work for those would wait for ever."""

from __future__ import annotations

import os

from .errors import EigenmixError

__all__ = ["begin"]

_has_begun = False
_is_forked = False


def begin() -> None:
    """Note that the engine computes from now on.

    Raises
    ------
    EigenmixError
        In a process that was forked from one where it did.
    """
    global _has_begun
    if _is_forked:
        raise EigenmixError(
            "this process was forked from one in which eigenmix has computed, whose threads it has "
            "not; start it with the method \"spawn\" (multiprocessing.get_context)",
            1,
        )
    _has_begun = True


def _forked() -> None:
    global _is_forked
    _is_forked = _has_begun


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

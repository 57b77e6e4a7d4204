"""Calls of the engine: commands with options by name, results as dictionaries."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Union

from . import _engine
from .errors import EigenmixWarning
from .forks import begin
from .progress import Bars, Progress, ProgressOption, shown

__all__ = ["PathLike", "call", "many", "path_of"]

#: A path, or what has one. Where an adapter or a model is asked for, also a Hub id (``org/name``).
PathLike = Union[str, "os.PathLike[str]"]

_logger = logging.getLogger("eigenmix")


def path_of(path: PathLike) -> str:
    """The path as a text."""
    return os.fspath(path)


def many(paths: PathLike | Iterable[PathLike]) -> list[str]:
    """One path or several as a list of texts."""
    if isinstance(paths, (str, os.PathLike)):
        return [path_of(paths)]
    return [path_of(path) for path in paths]


def call(command: str, options: Mapping[str, Any], progress: ProgressOption = None) -> dict[str, Any]:
    """Run a command of the command line in this process.

    Parameters
    ----------
    command
        Its name, such as ``"select"``: also one that has no function of its own in this module.
    options
        By the names of its flags with underscores. One that is ``None`` has its default.
    progress
        See `ProgressOption`.

    Returns
    -------
    dict
        What ``--json`` prints.

    Raises
    ------
    EigenmixError
        As the command line reports it.
    KeyboardInterrupt
        At Ctrl-C. A training has written a checkpoint by then; what other commands were writing is not
        there.
    """
    begin()
    show = shown(progress)

    def listen(kind: str, content: Any) -> None:
        if kind == "note":
            _logger.info("%s", content)
        elif kind == "detail":
            _logger.debug("%s", content)
        elif kind == "warning":
            warnings.warn(content, EigenmixWarning, stacklevel=4)
        else:
            number, action, position, total, unit, message = content
            show(Progress(number, action, position, total, unit, message, kind == "end"))

    try:
        text = _engine.call(command, json.dumps(options, default=_as_json), listen)
    finally:
        if isinstance(show, Bars):
            show.close()
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def _as_json(value: Any) -> Any:
    """Paths as texts, arrays and their numbers as lists and numbers."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} is nothing that an option can be")

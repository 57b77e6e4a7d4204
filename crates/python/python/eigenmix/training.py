"""Trainings and their runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Union

from . import _engine
from .adapters import Adapter
from .calls import PathLike, call, path_of
from .errors import EigenmixError
from .progress import ProgressOption

__all__ = ["Configuration", "Run", "train"]

#: A TOML file, or its content as nested dictionaries.
Configuration = Union[PathLike, Mapping[str, Any]]


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes
    ----------
    path : Path
        The directory of the run.
    steps : int
        The number of steps of the optimiser.
    seconds : float
        How long they took.
    adapter_parameters, head_parameters : int
        How many values were trained.
    loss : float or None
        The last loss that was logged.
    validation, test : dict
        The metrics of either split, by their names; empty where there was no such split.
    """

    path: Path
    steps: int
    seconds: float
    adapter_parameters: int
    head_parameters: int
    loss: float | None
    validation: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, path: PathLike) -> Run:
        """Read a finished run from its directory.

        Raises
        ------
        EigenmixError
            If it is none, or not finished.
        """
        outcome = Path(path) / "outcome.json"
        if not outcome.is_file():
            raise EigenmixError(f"`{path_of(path)}` has no outcome.json: it is no finished run")
        return cls._of(Path(path), json.loads(outcome.read_text(encoding="utf-8")))

    @classmethod
    def _of(cls, path: Path, outcome: Mapping[str, Any]) -> Run:
        return cls(
            path,
            outcome["steps"],
            outcome["seconds"],
            outcome["adapter_parameters"],
            outcome["head_parameters"],
            outcome.get("loss"),
            _numbers(outcome.get("validation")),
            _numbers(outcome.get("test")),
        )

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Every logged step and every evaluation, in their order."""
        lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line]

    @property
    def adapter(self) -> Path:
        """The directory of the trained adapter, as plain PEFT LoRA."""
        return self.path / "adapter"

    @property
    def coefficients(self) -> Path | None:
        """The file of what was trained alone, of methods on a basis."""
        file = self.path / "coefficients.safetensors"
        return file if file.is_file() else None

    def load_adapter(self) -> Adapter:
        """The factors of the trained adapter."""
        return Adapter(self.adapter)


def _numbers(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """The metrics; what is not a number is a text in JSON."""
    return {name: float(value) for name, value in (metrics or {}).items()}


def train(
    config: Configuration,
    *,
    overrides: Mapping[str, Any] | None = None,
    tokens_per_batch: int | None = None,
    resume: bool = False,
    force: bool = False,
    device: str | None = None,
    progress: ProgressOption = None,
) -> Run:
    """Train an adapter as a configuration says.

    Ctrl-C ends the training after its step, writes a checkpoint and raises KeyboardInterrupt; the same
    call with ``resume=True`` goes on from there, with the same result as if it had never stopped.

    Parameters
    ----------
    config
        A TOML file, or the same as nested dictionaries.
    overrides
        Values of keys, such as ``{"training.epochs": 3}``.
    tokens_per_batch
        Fill each batch with as many examples as have together no more tokens.
    resume
        Continue an interrupted run from its last checkpoint.
    force
        Overwrite the run if it exists.
    device
        ``"cpu"``, ``"auto"`` or another backend of this build.
    progress
        See `eigenmix.ProgressOption`.

    Returns
    -------
    Run

    Raises
    ------
    EigenmixError
        With everything that is wrong with the configuration.
    KeyboardInterrupt
        At Ctrl-C.
    """
    options: dict[str, Any] = {
        "tokens_per_batch": tokens_per_batch,
        "overrides": overrides,
        "resume": resume,
        "force": force,
        "device": device,
    }
    with configuration_file(config) as file:
        outcome = call("train", {**options, "config": file}, progress)
    return Run._of(Path(outcome["output"]), outcome)


@contextmanager
def configuration_file(config: Configuration) -> Iterator[str]:
    """The path of a configuration; of a dictionary, that of a file which is there for the while."""
    if not isinstance(config, Mapping):
        yield path_of(config)
        return
    with TemporaryDirectory(prefix="eigenmix-") as directory:
        file = Path(directory) / "config.toml"
        file.write_text(_engine.to_toml(json.dumps(without_none(config))), encoding="utf-8")
        try:
            yield str(file)
        except EigenmixError as error:
            # Nobody knows that file and its lines.
            message = re.sub(re.escape(str(file)) + r":\d+: ", "- ", error.message)
            message = message.replace(f"`{file}`", "the configuration")
            raise EigenmixError(message, error.status) from None


def without_none(value: Any) -> Any:
    """Values that JSON has, without keys that are None: TOML has no such value."""
    if isinstance(value, Mapping):
        return {key: without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [without_none(inner) for inner in value]
    if hasattr(value, "__fspath__"):
        return path_of(value)
    return value

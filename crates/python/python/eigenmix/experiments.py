"""Experiments: stages, arms, seeds, and one comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .calls import PathLike, call
from .progress import ProgressOption
from .training import Configuration, configuration_file

__all__ = ["Arm", "Report", "run"]


@dataclass(frozen=True)
class Arm:
    """One arm over its seeds.

    Attributes
    ----------
    name : str
        Its name.
    metrics : dict
        The mean of each metric over the seeds.
    deviations : dict
        The standard deviation of each.
    by_seed : dict
        The metrics of each seed.
    adapter_parameters, head_parameters : int
        How many values were trained.
    details : dict
        All of it, as ``--json`` prints it.
    """

    name: str
    metrics: dict[str, float]
    deviations: dict[str, float]
    by_seed: dict[int, dict[str, float]]
    adapter_parameters: int | None
    head_parameters: int | None
    details: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Report:
    """The comparison of an experiment.

    Attributes
    ----------
    path : Path
        Where it is, with report.html and a run for each arm and seed.
    arms : dict
        The arms by their names, in their order.
    details : dict
        All of it, as ``--json`` prints it.
    """

    path: Path
    arms: dict[str, Arm]
    details: dict[str, Any] = field(repr=False)


def run(
    experiment: Configuration,
    *,
    out: PathLike | None = None,
    overrides: Mapping[str, Any] | None = None,
    force: bool = False,
    device: str | None = None,
    progress: ProgressOption = None,
) -> Report:
    """Run an experiment, or what of it is not done yet, and compare its arms.

    Parameters
    ----------
    experiment
        A TOML file, or the same as nested dictionaries.
    out
        Where it is written, instead of its own ``output``.
    overrides
        Values of keys, such as ``{"seeds": [0, 1]}``.
    force
        Start anew.
    device, progress
        As in `eigenmix.train`.

    Returns
    -------
    Report

    Raises
    ------
    EigenmixError
        With everything that is wrong with the file, or if a cell failed.
    KeyboardInterrupt
        At Ctrl-C; the same call goes on where it was.
    """
    options = {"out": out, "overrides": overrides, "force": force, "device": device}
    with configuration_file(experiment) as file:
        found = call("run", {**options, "experiment": file}, progress)
    return Report(Path(found["output"]), {each["name"]: _arm(each) for each in found["arms"]}, found)


def _arm(found: Mapping[str, Any]) -> Arm:
    metrics = found["metrics"]
    return Arm(
        found["name"],
        {name: float(value["mean"]) for name, value in metrics.items()},
        {name: float(value["deviation"]) for name, value in metrics.items()},
        {int(seed): values for seed, values in found["by_seed"].items()},
        found.get("adapter_parameters"),
        found.get("head_parameters"),
        dict(found),
    )

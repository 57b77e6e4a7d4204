"""Adapters: their factors, what is in them, and their other forms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _engine
from .calls import PathLike, call, many, path_of
from .forks import begin
from .progress import ProgressOption

__all__ = ["Adapter", "Exported", "Factors", "export", "inspect"]


@dataclass(frozen=True)
class Factors:
    """A module's update as the file has it: ΔW = s · B · A, or s · B · W · A with a mixer W.

    Attributes
    ----------
    b : ndarray
        ``[d_out, rank]``
    a : ndarray
        ``[rank, d_in]``
    mixer : ndarray or None
        MoSLoRA's W ``[rank, rank]``.
    scaling : float
        s, by PEFT's rules: alpha / rank or alpha / √rank, with the patterns.
    """

    b: npt.NDArray[np.float32]
    a: npt.NDArray[np.float32]
    mixer: npt.NDArray[np.float32] | None
    scaling: float


class Adapter:
    """An adapter in any dialect that eigenmix reads.

    Parameters
    ----------
    location
        A directory, a file, a run, ``STORE#NAME`` or a Hub id.

    Attributes
    ----------
    base_model : str or None
        The base model that it names.
    modules : list of str
        The paths of its modules in the base model.
    labels : list of str or None
        The names of its labels.
    """

    def __init__(self, location: PathLike) -> None:
        begin()
        self._engine = _engine.Adapter.load(path_of(location))

    @property
    def base_model(self) -> str | None:
        return self._engine.base_model

    @property
    def modules(self) -> list[str]:
        return self._engine.modules

    @property
    def labels(self) -> list[str] | None:
        return self._engine.labels

    @property
    def heads(self) -> dict[str, npt.NDArray[np.float32]]:
        """The heads that it brings, by the names of their tensors."""
        return {name: np.asarray(head) for name, head in self._engine.heads.items()}

    def factors(self, module: str) -> Factors:
        """The factors of a module as they are stored, read-only and without a copy."""
        b, a, mixer, scaling = self._engine.factors(module)
        between = None if mixer is None else np.asarray(mixer)
        return Factors(np.asarray(b), np.asarray(a), between, scaling)

    def left(self, module: str) -> npt.NDArray[np.float32]:
        """B' ``[d_out, rank]`` of ΔW = B' · A, with scaling and mixer multiplied in."""
        return np.asarray(self._engine.folded(module)[0])

    def right(self, module: str) -> npt.NDArray[np.float32]:
        """Aᵀ ``[d_in, rank]`` of ΔW = B' · A."""
        return np.asarray(self._engine.folded(module)[1]).T

    def delta(self, module: str) -> npt.NDArray[np.float32]:
        """ΔW ``[d_out, d_in]``, computed from its factors."""
        b, a = self._engine.folded(module)
        delta: npt.NDArray[np.float32] = np.asarray(b) @ np.asarray(a)
        return delta

    def __repr__(self) -> str:
        return f"<Adapter of {self.base_model}, {len(self.modules)} modules>"


def inspect(
    paths: PathLike | Iterable[PathLike],
    *,
    html: PathLike | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """What is in an adapter, a subspace, a store, a run, a base model or a safetensors file, or what
    several adapters have in common.

    Parameters
    ----------
    paths
        One of them, or several adapters.
    html
        Also draw charts on this page.
    force
        Overwrite the page.

    Returns
    -------
    dict
        What ``eigenmix inspect --json`` prints; its key ``kind`` says what was found.
    """
    return call("inspect", {"paths": many(paths), "html": html, "force": force}, False)


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes
    ----------
    path : Path
        A directory, or a file.
    format : str
        The dialect.
    ranks : tuple of int
        The smallest and the largest.
    energy_kept : float or None
        Of a smaller rank: the share of ‖ΔW‖² that is kept.
    details : dict
        All of it, as ``--json`` prints it.
    """

    path: Path
    format: str
    ranks: tuple[int, int]
    energy_kept: float | None
    details: dict[str, Any] = field(repr=False)


def export(
    source: PathLike,
    out: PathLike,
    *,
    format: str | None = None,
    dtype: str | None = None,
    rank: int | None = None,
    merge_into_base: PathLike | None = None,
    base: PathLike | None = None,
    allow_partial: bool = False,
    force: bool = False,
    progress: ProgressOption = None,
) -> Exported:
    """Export a run or an adapter as plain LoRA, or merged into its base model.

    Parameters
    ----------
    source
        A run, an adapter, or a Hub id.
    out
        A new directory, or a file of kohya, diffusers or GGUF.
    format
        ``"peft"``, ``"kohya"``, ``"diffusers"``, ``"mlx"`` or ``"gguf"``; that of the source by default.
    dtype
        ``"f32"``, ``"f16"`` or ``"bf16"``: that of the factors, or of the merged weights.
    rank
        Truncate every module to its best approximation of this rank.
    merge_into_base
        Write the checkpoint of this base model with the adapter merged into it.
    base
        From or to GGUF: the base model.
    allow_partial, force, progress
        As in `extract`.

    Returns
    -------
    Exported
    """
    options = {
        "source": path_of(source),
        "out": path_of(out),
        "format": format,
        "dtype": dtype,
        "rank": rank,
        "merge_into_base": merge_into_base,
        "base": base,
        "allow_partial": allow_partial,
        "force": force,
    }
    found = call("export", options, progress)
    low, high = found["ranks"]
    kept = (found.get("truncation") or {}).get("energy_kept")
    return Exported(Path(out), found["format"], (low, high), kept, found)

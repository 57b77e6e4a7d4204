"""Subspaces that adapters share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _engine
from .calls import PathLike, call, many, path_of
from .forks import begin
from .progress import ProgressOption

__all__ = ["Extraction", "ProjectedAdapter", "Subspace", "extract", "project"]


class Subspace:
    """Orthonormal bases U and V of both sides of every module: ΔW ≈ U · M · Vᵀ.

    Parameters
    ----------
    path
        A directory that `extract` wrote.

    Attributes
    ----------
    base_model : str or None
        The base model that the adapters name.
    sources : list of str
        The adapters that it was extracted from.
    modules : list of str
        The paths of the modules in the base model.
    """

    def __init__(self, path: PathLike) -> None:
        begin()
        self._engine = _engine.Subspace.load(path_of(path))

    @property
    def base_model(self) -> str | None:
        return self._engine.base_model

    @property
    def sources(self) -> list[str]:
        return self._engine.sources

    @property
    def modules(self) -> list[str]:
        return self._engine.modules

    @property
    def is_flattened(self) -> bool:
        """Whether its columns are whole factors (``kind="flattened"``)."""
        return self._engine.is_flattened

    def left(self, module: str) -> npt.NDArray[np.float32]:
        """U ``[d_out, p]``, flattened ``[d_out * rank, p]``: a read-only view without a copy."""
        return np.asarray(self._engine.side(module, True))

    def right(self, module: str) -> npt.NDArray[np.float32]:
        """V ``[d_in, q]``, flattened ``[d_in * rank, q]``: a read-only view without a copy."""
        return np.asarray(self._engine.side(module, False))

    def left_variance(self, module: str) -> npt.NDArray[np.float32]:
        """The variance that each column of U explains: ``[p]``."""
        return np.asarray(self._engine.variance(module, True), dtype=np.float32)

    def right_variance(self, module: str) -> npt.NDArray[np.float32]:
        """The variance that each column of V explains: ``[q]``."""
        return np.asarray(self._engine.variance(module, False), dtype=np.float32)

    def with_components(self, count: int) -> Subspace:
        """The same with at most `count` principal components a side, the strongest."""
        fewer = object.__new__(Subspace)
        fewer._engine = self._engine.with_components(count)
        return fewer

    def mixers(self, adapters: Iterable[PathLike]) -> dict[str, npt.NDArray[np.float32]]:
        """The mean of the mixers M = Uᵀ ΔW V ``[p, q]`` of the adapters that have the module."""
        begin()
        return {
            module: np.asarray(mixer)
            for module, mixer in self._engine.mixers(many(adapters)).items()
        }

    def __repr__(self) -> str:
        return f"<Subspace of {len(self.sources)} adapters, {len(self.modules)} modules>"


@dataclass(frozen=True)
class Extraction:
    """What `extract` did.

    Attributes
    ----------
    path : Path
        The directory of the subspace, or with `clusters` the one that has several.
    left_variance_kept, right_variance_kept : float or None
        The share of the variance of either side that the components explain; ``None`` where a subspace
        grew, or with `clusters`.
    seconds : float
        How long it took.
    details : dict
        All of it, as ``--json`` prints it.
    """

    path: Path
    left_variance_kept: float | None
    right_variance_kept: float | None
    seconds: float
    details: dict[str, Any] = field(repr=False)

    @property
    def subspace(self) -> Subspace:
        """The subspace, read from its directory."""
        return Subspace(self.path)


def extract(
    adapters: PathLike | Iterable[PathLike],
    out: PathLike,
    *,
    components: int | None = None,
    variance: float | None = None,
    weights: str | Sequence[float] | None = None,
    kind: Literal["columns", "flattened"] | None = None,
    raw_factors: bool = False,
    center: bool = False,
    augment: int | None = None,
    seed: int | None = None,
    update: PathLike | None = None,
    residual: float | None = None,
    clusters: int | Literal["auto"] | None = None,
    base: PathLike | None = None,
    allow_base_mismatch: bool = False,
    allow_partial: bool = False,
    force: bool = False,
    progress: ProgressOption = None,
) -> Extraction:
    """Extract the subspace that adapters share.

    Without `components` and `variance` all directions are kept, so that the adapters can be
    reconstructed exactly.

    Parameters
    ----------
    adapters
        The adapters, all for one base model: directories, files, runs, ``STORE#NAME`` or Hub ids.
    out
        Where to write the subspace: a new directory.
    components
        The number of components to keep on each side of a module.
    variance
        Keep as few components as explain this share of the variance, such as 0.95.
    weights
        How much each adapter counts: ``"equal"``, ``"norms"`` (each by its own), or a number for each in
        their order. Without it they count equally, with `raw_factors` by their norms.
    kind
        ``"columns"``, or ``"flattened"``: whole factors of adapters of one rank, on which the method
        ``eigenlorax`` trains a number for each and side.
    raw_factors
        Stack the factors as they are stored, not balanced.
    center
        Centre the columns first and keep the mean as an extra component.
    augment
        Add this many random columns to each side.
    seed
        The seed of the random columns.
    update
        A subspace to take the adapters into, instead of making a new one.
    residual
        With `update`: the share of an adapter's columns that may stay outside of the basis.
    clusters
        Group the adapters into so many groups and extract a subspace of each.
    base
        The base model of adapters in GGUF.
    allow_base_mismatch, allow_partial
        Continue if the adapters name different base models, or have tensors that are not used.
    force
        Overwrite `out` if eigenmix wrote it.
    progress
        See `eigenmix.ProgressOption`.

    Returns
    -------
    Extraction

    Raises
    ------
    EigenmixError
        If the adapters do not fit together, or `out` cannot be written.
    """
    options = {
        "adapters": many(adapters),
        "out": path_of(out),
        "components": components,
        "variance": variance,
        "weights": weights,
        "kind": kind,
        "raw_factors": raw_factors,
        "center": center,
        "augment": augment,
        "seed": seed,
        "update": update,
        "residual": residual,
        "clusters": clusters,
        "base": base,
        "allow_base_mismatch": allow_base_mismatch,
        "allow_partial": allow_partial,
        "force": force,
    }
    found = call("extract", options, progress)
    kept = [found.get(side, {}).get("variance_kept") for side in ("left", "right")]
    return Extraction(Path(out), kept[0], kept[1], found.get("seconds", 0.0), found)


@dataclass(frozen=True)
class ProjectedAdapter:
    """How much of an adapter a subspace can express.

    Attributes
    ----------
    name : str
        Its short name, and that of its directory in `out`.
    relative_error : float
        ‖ΔW − ΔŴ‖ / ‖ΔW‖ over all modules; those missing from the subspace count as lost.
    modules : dict
        The relative error of each module.
    skipped : list of str
        The modules that the subspace has not.
    """

    name: str
    relative_error: float
    modules: dict[str, float] = field(repr=False)
    skipped: list[str] = field(repr=False)


def project(
    adapters: PathLike | Iterable[PathLike],
    subspace: PathLike,
    out: PathLike | None = None,
    *,
    format: str | None = None,
    dtype: str | None = None,
    base: PathLike | None = None,
    allow_base_mismatch: bool = False,
    allow_partial: bool = False,
    force: bool = False,
    progress: ProgressOption = None,
) -> list[ProjectedAdapter]:
    """Measure how much of adapters a subspace can express, and write their projections.

    Parameters
    ----------
    adapters
        The adapters.
    subspace
        A directory that `extract` wrote.
    out
        Write the projection of one adapter there, of several to a directory each below it.
    format, dtype
        The dialect of what is written, and the dtype of its factors.
    base, allow_base_mismatch, allow_partial, force, progress
        As in `extract`.

    Returns
    -------
    list of ProjectedAdapter
        In the order of the adapters.
    """
    options = {
        "adapters": many(adapters),
        "subspace": path_of(subspace),
        "out": out,
        "format": format,
        "dtype": dtype,
        "base": base,
        "allow_base_mismatch": allow_base_mismatch,
        "allow_partial": allow_partial,
        "force": force,
    }
    found = call("project", options, progress)
    return [
        ProjectedAdapter(each["name"], each["relative_error"], each["modules"], each["skipped"])
        for each in found["adapters"]
    ]

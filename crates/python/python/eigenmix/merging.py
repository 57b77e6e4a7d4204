"""Several adapters as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from .adapters import Adapter
from .calls import PathLike, call, many, path_of
from .progress import ProgressOption

__all__ = ["Merged", "SearchedMerge", "merge", "merge_search"]

#: A value of a parameter, or values to search.
Parameter = Union[float, Sequence[float]]


@dataclass(frozen=True)
class Merged:
    """What `merge` wrote.

    Attributes
    ----------
    path : Path
        The merged adapter.
    energy_kept : float
        The share of ‖ΔW‖² that a smaller `rank` keeps; 1 without one.
    seconds : float
        How long it took.
    details : dict
        All of it, as ``--json`` prints it.
    """

    path: Path
    energy_kept: float
    seconds: float
    details: dict[str, Any] = field(repr=False)

    @property
    def adapter(self) -> Adapter:
        """The merged adapter, read from its files."""
        return Adapter(self.path)


@dataclass(frozen=True)
class SearchedMerge(Merged):
    """What `merge_search` found and wrote.

    Attributes
    ----------
    scale : float
        The best λ.
    method : object
        The method with its best parameters, such as ``{"ties": {"density": 0.2}}``.
    validation_score, test_score : float
        The accuracy as a share of that of the tasks' own adapters, averaged over the tasks.
    trials : list of dict
        What was tried, in its order.
    """

    scale: float = 1.0
    method: object = None
    validation_score: float = 0.0
    test_score: float = 0.0
    trials: list[dict[str, Any]] = field(default_factory=list, repr=False)


def merge(
    adapters: Iterable[PathLike],
    out: PathLike,
    *,
    space: str,
    method: str,
    scale: float | None = None,
    weights: Sequence[float] | None = None,
    isotropize: bool = False,
    scope: str | None = None,
    unscaled_rows: bool = False,
    compress: int | None = None,
    rank: int | None = None,
    seed: int | None = None,
    format: str | None = None,
    dtype: str | None = None,
    base: PathLike | None = None,
    allow_base_mismatch: bool = False,
    allow_partial: bool = False,
    force: bool = False,
    progress: ProgressOption = None,
    **parameters: float,
) -> Merged:
    """Merge adapters into one.

    Parameters
    ----------
    adapters
        The adapters, all for one base model.
    out
        Where to write the merged adapter: a new directory, or a file of kohya or diffusers.
    space
        ``"full"``, ``"knots"`` or ``"core"``.
    method
        How to combine the updates, such as ``"sum"``, ``"ties"`` or ``"tsv"``.
    scale
        λ, a factor on the result.
    weights
        A weight for each adapter; negative ones subtract.
    isotropize
        Set all non-zero singular values of the result to their mean.
    scope
        ties, dare-ties: choose the largest entries per ``"layer"`` or over the whole ``"model"``.
    unscaled_rows
        knots: merge the rows without their singular values.
    compress
        First project the adapters on a subspace of this rank that they share.
    rank
        Truncate every module to its best approximation of this rank.
    seed
        dare, dare-ties: the seed.
    format, dtype, base, allow_base_mismatch, allow_partial, force, progress
        As in `eigenmix.export` and `eigenmix.extract`.
    **parameters
        Those of the method, such as ``density=0.2`` of ties.

    Returns
    -------
    Merged
    """
    options = {
        "adapters": many(adapters),
        "out": path_of(out),
        "space": space,
        "method": method,
        "scale": scale,
        "weights": weights,
        "isotropize": isotropize,
        "scope": scope,
        "unscaled_rows": unscaled_rows,
        "compress": compress,
        "rank": rank,
        "seed": seed,
        "format": format,
        "dtype": dtype,
        "base": base,
        "allow_base_mismatch": allow_base_mismatch,
        "allow_partial": allow_partial,
        "force": force,
        **parameters,
    }
    found = call("merge", options, progress)
    return Merged(Path(out), found.get("energy_kept", 1.0), found.get("seconds", 0.0), found)


def merge_search(
    adapters: Iterable[PathLike],
    out: PathLike,
    *,
    space: str,
    method: str,
    base: PathLike,
    data: Mapping[str, PathLike] | Sequence[PathLike],
    scales: Sequence[float] | None = None,
    patience: int | None = None,
    rounds: int | None = None,
    search_rows: int | None = None,
    prompts: Sequence[str] | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    progress: ProgressOption = None,
    **options: Any,
) -> SearchedMerge:
    """Merge adapters with the λ and the parameters that do best on the tasks' validation splits.

    Parameters
    ----------
    adapters, out, space, method
        As in `merge`.
    base
        The base model.
    data
        The data of each adapter's task, by its name, or in the order of the adapters.
    scales
        The values of λ to try.
    patience
        Beyond 1.0, stop after this many values of λ in a row without improvement.
    rounds
        Go through the coordinates at most this many times.
    search_rows
        Search on this many validation rows of each task.
    prompts, text, text_pair, label, batch_size
        How the data is read and asked.
    device
        Where the models run; the CPU by default.
    progress
        See `eigenmix.ProgressOption`.
    **options
        Other options of `merge`, parameters, and values of parameters to search, such as
        ``densities=[0.1, 0.2]``.

    Returns
    -------
    SearchedMerge
    """
    places = data.items() if isinstance(data, Mapping) else None
    named = [f"{name}={path_of(path)}" for name, path in places or ()]
    given = {
        **options,
        "adapters": many(adapters),
        "out": path_of(out),
        "space": space,
        "method": method,
        "search": True,
        "base": path_of(base),
        "data": named if places is not None else many(data),
        "scales": scales,
        "patience": patience,
        "rounds": rounds,
        "search_rows": search_rows,
        "prompts": prompts,
        "text": text,
        "text_pair": text_pair,
        "label": label,
        "batch_size": batch_size,
        "device": device,
    }
    found = call("merge", given, progress)
    search = found["search"]
    return SearchedMerge(
        Path(out),
        found.get("energy_kept", 1.0),
        found.get("seconds", 0.0),
        found,
        scale=search["best"]["scale"],
        method=search["best"]["method"],
        validation_score=search["validation_score"],
        test_score=search["test_score"],
        trials=search["trials"],
    )

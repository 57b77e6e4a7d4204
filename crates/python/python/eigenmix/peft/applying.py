"""Putting coefficients into a model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, Union, cast

import numpy as np
import torch
from torch import Tensor, nn

from .. import _engine
from ..adapters import Adapter
from ..calls import PathLike, many
from ..errors import EigenmixError
from ..subspaces import Subspace
from .heads import load_heads, trainable_heads
from .layer import TRAINED, AdaptedLinear, shape_of
from .targets import TargetModules, layers_on, linear_layers, targeted

__all__ = ["apply"]

Model = TypeVar("Model", bound=nn.Module)

#: ``"zero"``, ``"random"`` (EigenLoRAx), ``"merge"``, an adapter, or several, of which the mean is taken.
Start = Union[PathLike, Sequence[PathLike]]


def apply(
    model: Model,
    subspace: Subspace | PathLike | None = None,
    method: str = "eigenmix",
    *,
    rank: int | None = None,
    alpha: float | None = None,
    dropout: float = 0.0,
    components: int | None = None,
    target_modules: TargetModules | None = None,
    start: Start = "zero",
    mixer: str = "kaiming",
    seed: int = 0,
    trainable: Sequence[str] | None = None,
) -> Model:
    """Freeze a model and put trainable coefficients beside its linear layers, in place.

    Initial values and scaling are those of ``eigenmix train`` with the same options and seed, to the bit.

    Parameters
    ----------
    model
        Any model with ``nn.Linear`` or ``Conv1D`` layers whose names are those of the subspace, up to a
        prefix.
    subspace
        What `eigenmix.extract` wrote; for ``"eigenmix"`` and ``"eigenlorax"``.
    method
        ``"eigenmix"``: a full mixer M ``[p, q]`` on the basis. ``"eigenlorax"``: C_B · C_Aᵀ of this rank on
        the basis. ``"moslora"``: LoRA with a trained mixer between its factors, without a subspace.
    rank
        That of the factors or of EigenLoRAx's coefficients, 8 by default. eigenmix has no rank; it takes
        the scaling that LoRA has at this rank.
    alpha
        The scaling is alpha / rank; twice the rank by default.
    dropout
        On the input of the update, in training.
    components
        Use at most this many principal components of the basis, the strongest.
    target_modules
        The layers to adapt, as in PEFT. By default all modules of the subspace; of MoSLoRA query and
        value.
    start
        ``"zero"``: ΔW = 0. ``"merge"``: the mean of the subspace's adapters. ``"random"``: EigenLoRAx as its
        authors start it. Or an adapter, or several: their projection on the basis; of MoSLoRA, whose
        factors have no basis, the factors of one adapter, with its rank, scaling and mixer.
    mixer
        MoSLoRA: how the mixer starts: ``"kaiming"``, ``"orthogonal"``, ``"identity"``, or
        ``"two-subspaces"``, which is not trained.
    seed
        Of the initial values.
    trainable
        Names of modules that are trained and saved as they are: by default ``classifier`` and ``score``
        where the model has them.

    Returns
    -------
    Module
        The same model.

    Raises
    ------
    EigenmixError
        If subspace, adapter and model do not fit together, or an option has no effect with this method.
    """
    if method not in TRAINED:
        expected = "`, `".join(TRAINED)
        raise EigenmixError(f"`{method}` is no method; expected one of `{expected}`")
    layers = linear_layers(model)
    heads = trainable_heads(model, trainable)
    adapter = None
    updates: dict[str, AdaptedLinear]
    if method == "moslora":
        if subspace is not None or components is not None:
            raise EigenmixError("MoSLoRA trains its own factors; leave subspace and components out")
        if start != "zero":
            adapter = _one_adapter(start)
            if rank is not None or alpha is not None:
                raise EigenmixError("rank and alpha are those of the adapter; leave them out")
            updates = _from_factors(layers, adapter, target_modules, dropout)
        else:
            outside = _without_heads(layers, heads)
            chosen = targeted(outside, target_modules, "layer of the model")
            size = _size(rank, alpha)
            updates = _fresh_factors(layers, chosen, size, seed, mixer, dropout)
    else:
        if subspace is None:
            raise EigenmixError(f"{method} trains coefficients on a basis; a subspace is required")
        if start == "random" and method != "eigenlorax":
            raise EigenmixError('start="random" is for eigenlorax, whose authors do it')
        space = subspace if isinstance(subspace, Subspace) else Subspace(subspace)
        space = space if components is None else space.with_components(components)
        adapters = _adapters_of(start, space)
        if isinstance(start, (str, os.PathLike)) and adapters and start != "merge":
            adapter = Adapter(start)
        updates = _on_basis(
            layers, space, method, target_modules, _size(rank, alpha), seed, dropout,
            is_random=start == "random",
            started=space.mixers(adapters) if adapters else {},
        )
    model.requires_grad_(False)
    for name, layer in updates.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer)
    for head in heads:
        model.get_submodule(head).requires_grad_(True)
    if adapter is not None:
        load_heads(model, heads, adapter)
    return model


def _size(rank: int | None, alpha: float | None) -> tuple[int, float]:
    """The rank and the scaling of LoRA, alpha / rank."""
    rank = 8 if rank is None else rank
    if rank < 1:
        raise EigenmixError("a rank of at least 1 is required")
    return rank, (2 * rank if alpha is None else alpha) / rank


def _one_adapter(start: Start) -> Adapter:
    if start in ("merge", "random") or not isinstance(start, (str, os.PathLike)):
        raise EigenmixError('MoSLoRA starts at "zero" or from the factors of one adapter')
    return Adapter(start)


def _adapters_of(start: Start, subspace: Subspace) -> list[str]:
    if start in ("zero", "random"):
        return []
    if start == "merge":
        return subspace.sources
    return many(cast("PathLike | Iterable[PathLike]", start))


def _without_heads(names: Iterable[str], heads: Sequence[str]) -> list[str]:
    """The layers outside of what is trained whole."""
    return [
        name
        for name in names
        if not any(name == head or name.startswith(f"{head}.") for head in heads)
    ]


def _tensors(matrices: Mapping[str, Any]) -> dict[str, Tensor]:
    """Arrays of the engine, which are read-only, as tensors of their own."""
    return {name: torch.tensor(np.asarray(matrix)) for name, matrix in matrices.items()}


def _fresh_factors(
    layers: dict[str, nn.Module],
    names: list[str],
    size: tuple[int, float],
    seed: int,
    mixer: str,
    dropout: float,
) -> dict[str, AdaptedLinear]:
    rank, scaling = size
    frozen = ("mixer",) if mixer == "two-subspaces" else ()
    updates = {}
    for name in names:
        base = layers[name]
        scaling_here, matrices = _engine.factor_start(
            name, shape_of(base), seed=seed, rank=rank, scaling=scaling, mixer=mixer
        )
        updates[name] = AdaptedLinear(
            base, name, "moslora", _tensors(matrices), scaling_here, dropout, frozen
        )
    return updates


def _from_factors(
    layers: dict[str, nn.Module],
    adapter: Adapter,
    target_modules: TargetModules | None,
    dropout: float,
) -> dict[str, AdaptedLinear]:
    factors = {path: adapter.factors(path) for path in adapter.modules}
    shapes = {
        path: (found.b.shape[0], found.a.shape[1]) for path, found in factors.items()
    }
    places = layers_on(layers, adapter.modules, shapes)
    chosen = places if target_modules is None else targeted(
        places, target_modules, "module of the adapter"
    )
    updates = {}
    for name in chosen:
        found = factors[places[name]]
        identity = np.eye(found.a.shape[0], dtype=np.float32)
        between = identity if found.mixer is None else found.mixer
        matrices = {"left": found.b, "right": found.a.T, "mixer": between}
        updates[name] = AdaptedLinear(
            layers[name], name, "moslora", _tensors(matrices), found.scaling, dropout
        )
    return updates


def _on_basis(
    layers: dict[str, nn.Module],
    subspace: Subspace,
    method: str,
    target_modules: TargetModules | None,
    size: tuple[int, float],
    seed: int,
    dropout: float,
    *,
    is_random: bool,
    started: Mapping[str, Any],
) -> dict[str, AdaptedLinear]:
    rank, scaling = size
    if subspace.is_flattened:
        raise EigenmixError(
            "the subspace is flattened, which eigenmix.train has the method \"eigenlorax\" for; here the "
            "directions of columns are needed, which extract finds without kind=\"flattened\""
        )
    bases = {path: (subspace.left(path), subspace.right(path)) for path in subspace.modules}
    shapes = {path: (left.shape[0], right.shape[0]) for path, (left, right) in bases.items()}
    places = layers_on(layers, subspace.modules, shapes)
    chosen = places if target_modules is None else targeted(
        places, target_modules, "module of the subspace"
    )
    updates = {}
    for name in chosen:
        path = places[name]
        from_here = started.get(path)
        scaling_here, matrices = _engine.basis_start(
            method,
            subspace._engine,
            path,
            seed=seed,
            rank=rank,
            scaling=scaling,
            random=is_random,
            start=None if from_here is None else from_here.tolist(),
        )
        left, right = bases[path]
        updates[name] = AdaptedLinear(
            layers[name],
            path,
            method,
            _tensors({**matrices, "left": left, "right": right}),
            scaling_here,
            dropout,
        )
    return updates

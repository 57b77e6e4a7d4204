"""The way back to a plain model."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from ..errors import EigenmixError
from .layer import adapted_layers, is_transposed

__all__ = ["merge_and_unload"]

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def merge_and_unload(model: Model) -> Model:
    """Add every update to the weight beside it, and put the plain layers back, in place.

    Raises
    ------
    EigenmixError
        If a weight is quantised, so that nothing can be added to it.
    """
    layers = adapted_layers(model)
    for name, layer in layers.items():
        if not layer.weight.is_floating_point():
            raise EigenmixError(
                f"`{name}` is quantised; save_pretrained() and `eigenmix.export` with merge_into_base "
                "decode it"
            )
    for name, layer in layers.items():
        b, a = layer.folded()
        delta = b @ a
        weight = layer.weight
        merged = weight.float() + (delta.T if is_transposed(layer.base) else delta)
        weight.copy_(merged.to(weight.dtype))
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.base)
    return model

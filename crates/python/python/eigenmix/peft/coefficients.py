"""Only what was trained, in the form of the file ``coefficients.safetensors`` of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Union

import torch
from torch import Tensor, nn

from ..calls import PathLike, path_of
from ..errors import EigenmixError
from .heads import head_values
from .layer import adapted_layers

__all__ = ["coefficients", "load_coefficients", "save_coefficients"]

#: A file, or its tensors.
Coefficients = Union[PathLike, Mapping[str, Tensor]]


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """The trained values themselves, by their names in files."""
    layers = adapted_layers(model)
    if not layers:
        raise EigenmixError("the model has no coefficients; apply() puts them in")
    values = {
        f"{layer.path}/{name}": layer.matrix(name)
        for layer in layers.values()
        for name in layer.trained
    }
    return {**values, **head_values(model)}


def coefficients(model: nn.Module) -> dict[str, Tensor]:
    """The trained values: ``MODULE/mixer`` and its like, and those of the head, on the CPU.

    The names and shapes are those of the file ``coefficients.safetensors`` of a run of ``eigenmix train``.
    """
    return {
        name: value.detach().to("cpu", torch.float32, copy=True)
        for name, value in _trained(model).items()
    }


def save_coefficients(model: nn.Module, path: PathLike, *, force: bool = False) -> None:
    """Write the trained values to a safetensors file.

    Raises
    ------
    EigenmixError
        If the file exists and `force` is not set.
    """
    from safetensors.torch import save_file

    file = Path(path)
    if file.exists() and not force:
        raise EigenmixError(
            f"`{file}` exists already; choose another output, or replace it with `force`"
        )
    values = {name: value.contiguous() for name, value in coefficients(model).items()}
    beside = file.with_name(f".{file.name}.partial")
    save_file(values, str(beside), metadata={"format": "pt"})
    os.replace(beside, file)


@torch.no_grad()
def load_coefficients(model: nn.Module, source: Coefficients, *, head: bool = True) -> None:
    """Take trained values from a file of `save_coefficients` or of a run.

    Parameters
    ----------
    model
        A model to which `apply` was called with the same options.
    source
        The file, or its tensors.
    head
        Whether to take the head as well.

    Raises
    ------
    EigenmixError
        If a value is missing, has another shape, or belongs to nothing in the model. The model is as it was
        then.
    """
    if isinstance(source, Mapping):
        values = dict(source)
    else:
        from safetensors.torch import load_file

        values = load_file(path_of(source))
    own = _trained(model)
    heads = head_values(model)
    if not head:
        own = {name: value for name, value in own.items() if name not in heads}
        values = {name: value for name, value in values.items() if "/" in name}
    for name, value in own.items():
        found = values.get(name)
        if found is None:
            raise EigenmixError(f"`{name}` is missing in the coefficients")
        if found.shape != value.shape:
            raise EigenmixError(
                f"`{name}`: the shape {list(value.shape)} is expected, not {list(found.shape)}; was it "
                "trained on the same subspace, with the same rank?"
            )
    unknown = [name for name in values if name not in own]
    if unknown:
        raise EigenmixError(f"the model has nothing for `{unknown[0]}` of the coefficients")
    for name, value in own.items():
        value.copy_(values[name])

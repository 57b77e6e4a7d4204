"""Modules that are trained whole: the heads of tasks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..adapters import Adapter
from ..errors import EigenmixError, EigenmixWarning
from .layer import adapted_layers

__all__ = ["head_modules", "head_values", "load_heads", "trainable_heads"]

#: As PEFT has it for classifiers.
USUAL = ("classifier", "score")


def trainable_heads(model: nn.Module, names: Sequence[str] | None) -> list[str]:
    """The names of the modules that are trained whole.

    Raises
    ------
    EigenmixError
        If the model has no module of such a name.
    """
    known = dict(model.named_modules())
    if names is None:
        return [name for name in USUAL if name in known]
    for name in names:
        if name not in known:
            raise EigenmixError(f"the model has no module `{name}` to train")
    return list(names)


def head_values(model: nn.Module) -> dict[str, Tensor]:
    """What is trained besides the coefficients, by its names in the model."""
    inside = {
        id(parameter) for layer in adapted_layers(model).values() for parameter in layer.parameters()
    }
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in inside
    }


def head_modules(model: nn.Module) -> list[str]:
    """The names of the outermost modules that are trained whole."""
    values = head_values(model)
    found: list[str] = []
    for name, module in model.named_modules():
        inner = [f"{name}.{each}" for each, _ in module.named_parameters()]
        is_inside = any(name.startswith(f"{outer}.") for outer in found)
        if name and inner and not is_inside and all(each in values for each in inner):
            found.append(name)
    return found


def load_heads(model: nn.Module, names: Sequence[str], adapter: Adapter) -> None:
    """Take over the head that an adapter brings, where it has the shape of the model's."""
    values = {
        f"{name}.{inner}": parameter
        for name in names
        for inner, parameter in model.get_submodule(name).named_parameters()
    }
    for name, head in adapter.heads.items():
        own = values.get(name)
        if own is None or tuple(own.shape) != head.shape:
            warnings.warn(
                f"`{name}` of the adapter's head does not fit the model and is not used",
                EigenmixWarning,
                stacklevel=4,
            )
            continue
        with torch.no_grad():
            own.copy_(torch.tensor(head))

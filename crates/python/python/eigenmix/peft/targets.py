"""Which layers of a model are adapted."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Union

from torch import nn

from ..errors import EigenmixError, EigenmixWarning
from .layer import AdaptedLinear, is_transposed, shape_of

__all__ = ["TargetModules", "layers_on", "linear_layers", "targeted"]

#: Names, which may be the ends of paths; a regular expression over whole paths; or ``"all-linear"``.
TargetModules = Union[str, Sequence[str]]

#: Query and value, as the families of models call them.
QUERY_AND_VALUE = ("query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "c_attn")


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of a model by their names.

    Raises
    ------
    EigenmixError
        If there is an adapted one among them.
    """
    if any(isinstance(module, AdaptedLinear) for module in model.modules()):
        raise EigenmixError("the model is adapted already; merge_and_unload() takes it back")
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or is_transposed(module)
    }


def _ends(name: str, path: str) -> bool:
    return name == path or name.endswith(f".{path}")


def targeted(names: Iterable[str], targets: TargetModules | None, among: str) -> list[str]:
    """Those of the names that the targets match, in their order.

    Parameters
    ----------
    names
        The names of layers.
    targets
        As in PEFT; by default query and value.
    among
        What the layers are, for messages.

    Raises
    ------
    EigenmixError
        If one of several names matches none.
    """
    known = list(names)
    if targets is None:
        found = [name for name in known if name.rpartition(".")[2] in QUERY_AND_VALUE]
        if not found:
            raise EigenmixError("the model has no query and value as eigenmix knows them; "
                                "name its layers in target_modules")
        return found
    if targets == "all-linear":
        return known
    if isinstance(targets, str):
        found = [name for name in known if re.fullmatch(targets, name)]
        unmatched = [] if found else [targets]
    else:
        found = [name for name in known if any(_ends(name, each) for each in targets)]
        unmatched = [each for each in targets if not any(_ends(name, each) for name in known)]
    if unmatched or not found:
        last = sorted({name.rpartition(".")[2] for name in known})
        close = difflib.get_close_matches(unmatched[0] if unmatched else "", last, 1)
        advice = f"; did you mean `{close[0]}`?" if close else f"; there are {', '.join(last)}"
        missing = "`, `".join(unmatched)
        raise EigenmixError(f"no {among} matches `{missing}` of target_modules{advice}")
    return found


def layers_on(
    layers: dict[str, nn.Module], paths: Sequence[str], shapes: dict[str, tuple[int, int]]
) -> dict[str, str]:
    """The paths of a subspace's modules by the names of the layers that they are.

    A model may be without the head that its adapters were made with, so that one of the two names may
    begin with more.

    Parameters
    ----------
    layers
        By their names in the model.
    paths
        Those of the subspace.
    shapes
        ``(d_out, d_in)`` of each path.

    Raises
    ------
    EigenmixError
        If no layer is in the subspace, or one has another shape there.
    """
    found: dict[str, str] = {}
    missing = []
    for path in paths:
        names = [name for name in layers if _ends(name, path) or _ends(path, name)]
        if len(names) > 1:
            raise EigenmixError(f"`{path}` of the subspace is `{names[0]}` and `{names[1]}`")
        if not names:
            missing.append(path)
            continue
        shape = shape_of(layers[names[0]])
        if shape != shapes[path]:
            raise EigenmixError(
                f"`{path}`: the subspace is for a layer {list(shapes[path])}, the model has "
                f"{list(shape)}; is it a subspace of another base model?"
            )
        found[names[0]] = path
    if not found:
        raise EigenmixError(
            f"the subspace has no module of this model: it has `{paths[0]}`, the model "
            f"`{next(iter(layers), '')}`"
        )
    if missing:
        warnings.warn(
            f"{len(missing)} modules of the subspace, such as `{missing[0]}`, are not in the model",
            EigenmixWarning,
            stacklevel=4,
        )
    # In the order of the model.
    return {name: found[name] for name in layers if name in found}

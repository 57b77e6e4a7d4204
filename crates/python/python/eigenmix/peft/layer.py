"""The adapted layer: a frozen linear layer and ΔW = s · U · M · Vᵀ beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["AdaptedLinear", "adapted_layers", "is_transposed", "shape_of"]

#: Which of the matrices a method trains; the others of its update are a frozen basis.
TRAINED = {
    "moslora": ("left", "mixer", "right"),
    "eigenlorax": ("left_coefficients", "right_coefficients"),
    "eigenmix": ("mixer",),
}


def is_transposed(layer: nn.Module) -> bool:
    """Whether the weight is ``[d_in, d_out]``, as in the Conv1D of GPT-2."""
    return type(layer).__name__ == "Conv1D"


def shape_of(layer: nn.Module) -> tuple[int, int]:
    """``(d_out, d_in)`` of a linear layer."""
    if is_transposed(layer):
        d_in, d_out = cast(Tensor, layer.weight).shape
        return d_out, d_in
    return cast(int, layer.out_features), cast(int, layer.in_features)


class AdaptedLinear(nn.Module):
    """y = W x + b + s · U · M · Vᵀ · dropout(x)

    Parameters
    ----------
    base
        The frozen layer, an ``nn.Linear`` or a ``Conv1D``.
    path
        The name of the module in files.
    method
        ``"eigenmix"`` (M ``[p, q]``), ``"eigenlorax"`` (M = C_B · C_Aᵀ of ``[p, rank]`` and ``[q, rank]``)
        or ``"moslora"`` (M ``[rank, rank]``, and U and V are trained as well).
    matrices
        Those of the update by their names in files: ``left`` is U ``[d_out, p]``, ``right`` is V
        ``[d_in, q]``, and ``mixer`` or the two coefficients.
    scaling
        s.
    dropout
        On the input of the update, in training.
    frozen
        Names of matrices that stay as they are although the method would train them.
    """

    def __init__(
        self,
        base: nn.Module,
        path: str,
        method: str,
        matrices: Mapping[str, Tensor],
        scaling: float,
        dropout: float = 0.0,
        frozen: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.base = base
        self.path = path
        self.method = method
        self.scaling = scaling
        self.dropout = nn.Dropout(dropout)
        self.trained = tuple(name for name in TRAINED[method] if name not in frozen)
        device = cast(Tensor, base.weight).device
        for name, matrix in matrices.items():
            # Updates are computed in single precision, whatever the frozen weights are kept in.
            value = matrix.detach().to(device, torch.float32).clone()
            if name in self.trained:
                self.register_parameter(name, nn.Parameter(value))
            else:
                # A basis is in the subspace's files already.
                self.register_buffer(name, value, persistent=name in frozen)

    @property
    def weight(self) -> Tensor:
        """The frozen weight."""
        return cast(Tensor, self.base.weight)

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias."""
        return cast("Tensor | None", self.base.bias)

    @property
    def in_features(self) -> int:
        """d_in"""
        return shape_of(self.base)[1]

    @property
    def out_features(self) -> int:
        """d_out"""
        return shape_of(self.base)[0]

    def matrix(self, name: str) -> Tensor:
        """A matrix of the update, by its name in files."""
        return cast(Tensor, getattr(self, name))

    def forward(self, inputs: Tensor) -> Tensor:
        """
        Parameters
        ----------
        inputs
            ``[…, d_in]``

        Returns
        -------
        Tensor
            ``[…, d_out]``
        """
        outputs = self.base(inputs)
        right = self.matrix("right")
        hidden = self.dropout(inputs).to(right.dtype) @ right
        if self.method == "eigenlorax":
            hidden = hidden @ self.matrix("right_coefficients")
            hidden = hidden @ self.matrix("left_coefficients").T
        else:
            hidden = hidden @ self.matrix("mixer").T
        update = self.scaling * (hidden @ self.matrix("left").T)
        return cast(Tensor, outputs + update.to(outputs.dtype))

    @torch.no_grad()
    def folded(self) -> tuple[Tensor, Tensor]:
        """B ``[d_out, rank]`` and A ``[rank, d_in]`` with ΔW = B · A.

        Scaling and M go into the side that makes the rank smallest; computed in double precision.
        """
        left, right = self.matrix("left").double(), self.matrix("right").double()
        if self.method == "eigenlorax":
            b = left @ self.matrix("left_coefficients").double()
            a = (right @ self.matrix("right_coefficients").double()).T
        else:
            mixer = self.matrix("mixer").double()
            if mixer.shape[0] < mixer.shape[1]:
                b, a = left, mixer @ right.T
            else:
                b, a = left @ mixer, right.T
        return (self.scaling * b).float(), a.float().contiguous()

    def extra_repr(self) -> str:
        sizes = [f"{name}={tuple(self.matrix(name).shape)}" for name in self.trained]
        return f"{self.method}, {', '.join(sizes)}, scaling={self.scaling:.4g}"


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """The adapted layers of a model by their names in it."""
    return {
        name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)
    }

"""Coefficients on a recycled basis, in any PyTorch model.

::

    import eigenmix.peft

    model = AutoModelForSequenceClassification.from_pretrained(...)
    eigenmix.peft.apply(model, "shared", method="eigenmix", rank=8)
    ...  # train it: a loop, a Trainer, accelerate, torch.compile
    eigenmix.peft.save_pretrained(model, "adapter")  # plain LoRA, for PEFT and for eigenmix

Frozen layers stay as they are; beside each stands ΔW = s · U · M · Vᵀ with the basis U, V of the subspace
and trained coefficients M. Initial values and scaling are exactly those of ``eigenmix train``. MoSLoRA,
which trains U, M and V, is one more method.
"""

from __future__ import annotations

try:
    import torch as _torch
except ImportError as error:  # pragma: no cover
    raise ImportError("eigenmix.peft needs PyTorch: pip install 'eigenmix[torch]'") from error
del _torch

from .applying import apply
from .coefficients import coefficients, load_coefficients, save_coefficients
from .layer import AdaptedLinear, adapted_layers
from .merging import merge_and_unload
from .saving import save_pretrained

__all__ = [
    "AdaptedLinear",
    "adapted_layers",
    "apply",
    "coefficients",
    "load_coefficients",
    "merge_and_unload",
    "save_coefficients",
    "save_pretrained",
]

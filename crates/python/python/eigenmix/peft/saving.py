"""A trained model's update as an adapter for other software."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from .. import __version__
from ..calls import PathLike
from ..errors import EigenmixError
from .heads import head_modules, head_values
from .layer import AdaptedLinear, adapted_layers, is_transposed

__all__ = ["save_pretrained"]

_PREFIX = "base_model.model."


def save_pretrained(
    model: nn.Module,
    path: PathLike,
    *,
    form: Literal["peft", "lora_AB"] = "peft",
    base_model: str | None = None,
    force: bool = False,
) -> None:
    """Write the update as an adapter that PEFT and eigenmix read.

    Parameters
    ----------
    model
        A model to which `apply` was called.
    path
        A new directory.
    form
        ``"peft"``: plain LoRA with ``lora_alpha`` = r, scaling and mixer multiplied in. ``"lora_AB"``:
        MoSLoRA in the form of its authors, with the mixers as ``lora_AB`` and the scaling as alpha.
    base_model
        Its name; by default the one that the model says.
    force
        Overwrite an adapter that is there.

    Raises
    ------
    EigenmixError
        If the directory exists, or the model has no such form.
    """
    from safetensors.torch import save_file

    layers = adapted_layers(model)
    if not layers:
        raise EigenmixError("the model has no coefficients; apply() puts them in")
    out = Path(path)
    if out.exists() and not (force and (out / "adapter_config.json").is_file()):
        raise EigenmixError(
            f"`{out}` exists already; choose another output, or replace an adapter with `force`"
        )
    tensors: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    ranks: dict[str, int] = {}
    for name, layer in layers.items():
        b, a, mixer, alphas[name] = _factors(name, layer, form)
        ranks[name] = a.shape[0]
        parts = {"lora_A": a, "lora_B": b}
        if mixer is not None:
            parts["lora_AB"] = mixer
        for part, matrix in parts.items():
            tensors[f"{_PREFIX}{name}.{part}.weight"] = matrix
    heads = head_values(model)
    tensors.update({f"{_PREFIX}{name}": value for name, value in heads.items()})
    tensors = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    config = _config(model, layers, ranks, alphas, bool(heads), base_model)
    if form == "lora_AB":
        config["lora_use_mixer"] = True
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        save_file(tensors, str(beside / "adapter_model.safetensors"), metadata={"format": "pt"})
        _write(beside / "adapter_config.json", config)
        _write(
            beside / "eigenmix.json",
            {
                "version": __version__,
                "method": next(iter(layers.values())).method,
                "sources": [],
                "options": {"with": "eigenmix.peft"},
            },
        )
        labels = _labels(model)
        if labels and heads:
            _write(beside / "labels.json", labels)
        beside.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        os.replace(beside, out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _factors(
    name: str, layer: AdaptedLinear, form: str
) -> tuple[Tensor, Tensor, Tensor | None, float]:
    """B, A, a mixer, and alpha."""
    if form == "peft":
        b, a = layer.folded()
        return b, a, None, float(a.shape[0])
    if form != "lora_AB":
        raise EigenmixError(f"`{form}` is no form; expected `peft` or `lora_AB`")
    if layer.method != "moslora":
        raise EigenmixError(
            f"`{name}`: the form lora_AB is that of MoSLoRA; {layer.method} is saved as plain LoRA"
        )
    a = layer.matrix("right").T
    return layer.matrix("left"), a, layer.matrix("mixer"), layer.scaling * a.shape[0]


def _config(
    model: nn.Module,
    layers: dict[str, AdaptedLinear],
    ranks: dict[str, int],
    alphas: dict[str, float],
    has_head: bool,
    base_model: str | None,
) -> dict[str, Any]:
    """PEFT's adapter_config.json: one rank and alpha, and patterns for the layers with others."""
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    own = getattr(model, "config", None)
    name = base_model or getattr(own, "_name_or_path", None) or getattr(model, "name_or_path", None)
    return {
        "peft_type": "LORA",
        "task_type": _task_type(model, has_head),
        "base_model_name_or_path": name or None,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {path: each for path, each in ranks.items() if each != rank},
        "alpha_pattern": {path: each for path, each in alphas.items() if each != alpha},
        "target_modules": list(layers),
        "modules_to_save": head_modules(model) or None,
        "fan_in_fan_out": any(is_transposed(layer.base) for layer in layers.values()),
        "bias": "none",
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
    }


def _task_type(model: nn.Module, has_head: bool) -> str | None:
    name = type(model).__name__
    if name.endswith("ForSequenceClassification") and has_head:
        return "SEQ_CLS"
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return "CAUSAL_LM"
    return None


def _labels(model: nn.Module) -> dict[str, str]:
    """The names of the labels, unless they are only numbered."""
    names = getattr(getattr(model, "config", None), "id2label", None) or {}
    if all(name == f"LABEL_{index}" for index, name in names.items()):
        return {}
    return {str(index): name for index, name in names.items()}


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

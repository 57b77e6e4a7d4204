"""Extraction beside vlora (PyPI: vlora-dev) and lorashare, on eight adapters of RoBERTa-base, in one process.

    pip install ./crates/python torch safetensors vlora-dev lorashare
    python benches/extraction_peers.py

The adapters are made here: rank 8 on query and value of twelve layers, A as PEFT initialises it and B of
random numbers, since the time depends on sizes alone. All read the adapters from disk; imports and one
warm-up call of each are excluded. lorashare's basis is the principal components of the centred columns of
the stored factors, which are eigenmix's `raw_factors` and `center`; vlora flattens the factors of an adapter
to one row, which is another subspace, so that only times compare.
"""

import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import eigenmix

LAYERS, WIDTH, RANK, ADAPTERS, COMPONENTS, REPEATS = 12, 768, 8, 8, 32, 5


def write_adapter(directory: Path, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(WIDTH)
    tensors = {}
    for layer in range(LAYERS):
        for part in ("query", "value"):
            name = f"base_model.model.roberta.encoder.layer.{layer}.attention.self.{part}"
            a = torch.empty(RANK, WIDTH).uniform_(-bound, bound, generator=random)
            b = 0.02 * torch.randn(WIDTH, RANK, generator=random)
            tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = a, b
    directory.mkdir()
    save_file(tensors, str(directory / "adapter_model.safetensors"))
    config = {
        "peft_type": "LORA", "base_model_name_or_path": "roberta-base", "r": RANK, "lora_alpha": 16,
        "target_modules": ["query", "value"], "bias": "none", "task_type": "SEQ_CLS",
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))


def least(run) -> float:
    run()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        names = [str(Path(place) / f"adapter-{index}") for index in range(ADAPTERS)]
        for index, name in enumerate(names):
            write_adapter(Path(name), index)
        out = Path(place) / "subspace"

        def own(**options):
            return eigenmix.extract(
                names, out, components=COMPONENTS, force=True, progress=False, **options
            )

        figures = {"eigenmix": least(own)}
        figures["eigenmix, raw and centred"] = least(lambda: own(raw_factors=True, center=True))
        try:
            from vlora import SharedSubspace
            from vlora.io import load_adapter

            figures["vlora"] = least(
                lambda: SharedSubspace.from_adapters(
                    [load_adapter(name) for name in names], num_components=ADAPTERS
                )
            )
        except ImportError:
            print("vlora is not installed", file=sys.stderr)
        try:
            from lorashare import SHAREModel

            def share():
                return SHAREModel.from_adapters(
                    dict(zip("abcdefgh", names)), num_components=COMPONENTS
                )

            figures["lorashare"] = least(share)
            compare(share(), own(raw_factors=True, center=True).subspace)
        except ImportError:
            print("lorashare is not installed", file=sys.stderr)
        for name, seconds in figures.items():
            print(f"{name:27} {seconds:7.3f} s   {seconds / figures['eigenmix']:6.1f} ×")


def compare(share, subspace) -> None:
    """The largest difference between the projectors on the principal components of a side."""
    worst = 0.0
    for module in subspace.modules:
        for letter, basis in (("A", subspace.right(module)), ("B", subspace.left(module))):
            key = next(key for key in share.components if module in key and key.endswith(letter))
            theirs = share.components[key].double().numpy()
            # The mean of centred components is a column of its own, after the principal ones.
            ours = np.asarray(basis[:, : theirs.shape[1]], dtype=np.float64)
            worst = max(worst, np.abs(ours @ ours.T - theirs @ theirs.T).max())
    print(f"largest difference of a projector's entry from lorashare's: {worst:.1e}")


if __name__ == "__main__":
    main()

"""Cuts what make_bnb.py writes (seed 0) down to what the tests read.

    python cut_bnb.py BNB     BNB: the directory that make_bnb.py wrote

Copies `nf4-double-bf16` as `nf4` and the adapter, one matrix of `fp4` and of `int8`, and the references
of these. `../gguf/reference.safetensors` is cut by the same function from make_gguf.py's.
"""
import shutil, sys
from pathlib import Path
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).parent
MODULE = "model.layers.0.self_attn.k_proj"


def cut(source, target, wanted):
    tensors = load_file(source)
    save_file({name: tensors[name] for name in sorted(tensors) if wanted(name)}, target)


if __name__ == "__main__":
    bnb = Path(sys.argv[1])
    for source, target in [("nf4-double-bf16", "nf4"), ("adapter", "adapter")]:
        (HERE / target).mkdir(exist_ok=True)
        for path in (bnb / source).iterdir():
            if path.name != "generation_config.json":
                shutil.copy(path, HERE / target / path.name)
    for variant in ["fp4", "int8"]:
        (HERE / variant).mkdir(exist_ok=True)
        shutil.copy(bnb / variant / "config.json", HERE / variant)
        cut(bnb / variant / "model.safetensors", HERE / variant / "model.safetensors", lambda name: name.startswith(MODULE))
    dequantised = lambda name: name.endswith(f"dequantised.{MODULE}.weight") and name.split(".")[0] in ("nf4-double-bf16", "fp4", "int8")
    cut(bnb / "reference.safetensors", HERE / "reference.safetensors",
        lambda name: dequantised(name) or name.startswith(("input.", "nf4-double-bf16.logits.")))
    gguf = bnb.parent / "gguf"
    if gguf.is_dir():
        cut(gguf / "reference.safetensors", HERE.parent / "gguf" / "reference.safetensors",
            lambda name: name in ("llama.input_ids", "qwen2.input_ids", "llama-Q4_1.dequantised.blk.1.ffn_down.weight",
                                  "qwen2-mixed.dequantised.blk.0.attn_q.weight", "qwen2-mixed.dequantised.blk.0.attn_q.bias")
            or name.startswith(("llama-Q4_1.logits", "qwen2-mixed.logits")))

"""Matrices in words of 32 bits as GPTQ, AWQ and MLX save them, and their values by the formats' definitions.

    python make_packed_words.py     writes gptq-v1/, gptq-v2/, gptq-act-order/, awq/ and mlx/ beside this file

Packed by the loops of AutoGPTQ (`QuantLinear.pack`), AWQ (`WQLinear_GEMM.from_linear`) and MLX (`mx.quantize`),
written again on NumPy 2; no code of theirs is run. Values, in f64 and rounded to f32:
GPTQ and AWQ: W[o, i] = scales[g(i), o] · (q[i, o] − zero[g(i), o]); MLX: W[o, i] = scales[o, g] · q[o, i] + biases[o, g].
"""
import json
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).parent
D_OUT, D_IN, GROUP = 24, 64, 16
MODULE = "model.layers.0.mlp.down_proj"
random = np.random.default_rng(0)
groups = D_IN // GROUP
codes = random.integers(0, 16, (D_IN, D_OUT))
zeros = random.integers(1, 16, (groups, D_OUT))
scales = random.uniform(0.01, 0.1, (groups, D_OUT)).astype(np.float16)
in_order = np.arange(D_IN) // GROUP
shuffled = random.permutation(in_order)


def words(columns, order=range(8)):
    """[n, 8·m] codes -> [n, m] words along the last axis."""
    n, m = columns.shape
    packed = np.zeros((n, m // 8), dtype=np.uint32)
    for col in range(m // 8):
        for place, which in enumerate(order):
            packed[:, col] |= columns[:, col * 8 + which].astype(np.uint32) << np.uint32(4 * place)
    return packed


def write(name, config, tensors, values):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}, indent=1) + "\n")
    save_file({f"{MODULE}.{part}": np.ascontiguousarray(tensor) for part, tensor in tensors.items()}, folder / "model.safetensors")
    save_file({"weight": np.ascontiguousarray(values.astype(np.float32))}, folder / "reference.safetensors")


def affine(group_of):
    factor, zero = scales.astype(np.float64)[group_of], zeros[group_of]
    return (factor * (codes - zero)).T


def gptq(name, group_of, stored_zeros, **config):
    tensors = {"qweight": words(codes.T).T.view(np.int32), "qzeros": words(stored_zeros).view(np.int32), "scales": scales, "g_idx": group_of.astype(np.int32)}
    config = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": False, **config}
    write(name, {"quantization_config": config}, tensors, affine(group_of))


gptq("gptq-v1", in_order, zeros - 1, desc_act=False)
gptq("gptq-v2", in_order, zeros, desc_act=False, checkpoint_format="gptq_v2")
gptq("gptq-act-order", shuffled, zeros - 1, desc_act=True)
ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
write("awq", {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}},
      {"qweight": words(codes, ORDER).view(np.int32), "qzeros": words(zeros, ORDER).view(np.int32), "scales": scales}, affine(in_order))
biases = random.uniform(-0.5, 0.5, (D_OUT, groups)).astype(np.float16)
mlx_scales = scales.T.astype(np.float64)
write("mlx", {"quantization": {"group_size": GROUP, "bits": 4}},
      {"weight": words(codes.T), "scales": scales.T, "biases": biases},
      mlx_scales[:, in_order] * codes.T + biases.astype(np.float64)[:, in_order])

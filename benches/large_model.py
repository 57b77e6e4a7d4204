"""Writes a LLaMA of random weights in NF4, as transformers saves what bitsandbytes quantised, to measure the
memory and time of a training step on a large model:

    python benches/large_model.py 8b OUT --tokenizer DIR
    eigenmix train OUT/lora.toml

`1b` and `8b` have the shapes of LLaMA 3.2 1B and LLaMA 3 8B. The tables stay in bfloat16. DIR holds any
tokenizer.json whose ids are in the vocabulary. OUT/lora.toml trains LoRA r = 16 on q and v for three steps of
1 x 512 tokens with checkpointing, OUT/eigenmix.toml eigenmix on the gradient's basis; /usr/bin/time -v tells the peak."""

import argparse
import json
import pathlib
import shutil
import struct

import numpy

SHAPES = {
    "8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
               num_key_value_heads=8, tie_word_embeddings=False),
    "1b": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
               num_key_value_heads=8, tie_word_embeddings=True),
}
VOCABULARY = 128256
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("size", choices=SHAPES)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
arguments = parser.parse_args()
shape = SHAPES[arguments.size]
out = arguments.out
out.mkdir(parents=True, exist_ok=True)
random = numpy.random.default_rng(0)

width, inner = shape["hidden_size"], shape["intermediate_size"]
keys = width // shape["num_attention_heads"] * shape["num_key_value_heads"]
layer = {
    "self_attn.q_proj": (width, width), "self_attn.k_proj": (keys, width), "self_attn.v_proj": (keys, width),
    "self_attn.o_proj": (width, width), "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width),
    "mlp.down_proj": (width, inner),
}
# Name, dtype, shape, bytes or a function that makes them.
tensors = []


def table(rows, columns):
    """Normal numbers of deviation 0.02 in bfloat16, one block of rows repeated."""
    block = (random.standard_normal((1024, columns), dtype=numpy.float32) * 0.02).view(numpy.uint32) >> 16
    block = block.astype(numpy.uint16)
    return b"".join(block[: min(1024, rows - first)].tobytes() for first in range(0, rows, 1024))


def plain(name, rows, columns):
    tensors.append((name, "BF16", [rows, columns], 2 * rows * columns, lambda: table(rows, columns)))


def norm(name):
    ones = numpy.full(width, 0x3F80, dtype=numpy.uint16).tobytes()
    tensors.append((name, "BF16", [width], 2 * width, lambda: ones))


def floats(name, values):
    data = numpy.asarray(values, dtype=numpy.float32).tobytes()
    tensors.append((name, "F32", [len(data) // 4], len(data), lambda: data))


def four_bits(name, rows, columns):
    count = rows * columns
    scales = count // 64
    tensors.append((name, "U8", [count // 2, 1], count // 2, lambda: random.bytes(count // 2)))
    # Scales between 0.7 and 1.3 of three deviations.
    tensors.append((name + ".absmax", "U8", [scales], scales, lambda: random.bytes(scales)))
    floats(name + ".quant_map", NF4)
    floats(name + ".nested_absmax", [0.3 * 3 * columns**-0.5] * -(-scales // 256))
    floats(name + ".nested_quant_map", numpy.linspace(-1, 1, 256))
    state = json.dumps({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [rows, columns],
                        "nested_blocksize": 256, "nested_dtype": "float32",
                        "nested_offset": 3 * columns**-0.5}).encode()
    tensors.append((name + ".quant_state.bitsandbytes__nf4", "U8", [len(state)], len(state), lambda: state))


plain("model.embed_tokens.weight", VOCABULARY, width)
for number in range(shape["num_hidden_layers"]):
    for name, (rows, columns) in layer.items():
        four_bits(f"model.layers.{number}.{name}.weight", rows, columns)
    norm(f"model.layers.{number}.input_layernorm.weight")
    norm(f"model.layers.{number}.post_attention_layernorm.weight")
norm("model.norm.weight")
if not shape["tie_word_embeddings"]:
    plain("lm_head.weight", VOCABULARY, width)

header, place = {}, 0
for name, dtype, dimensions, size, _ in tensors:
    header[name] = {"dtype": dtype, "shape": dimensions, "data_offsets": [place, place + size]}
    place += size
header = json.dumps(header).encode()
header += b" " * (-len(header) % 8)
with open(out / "model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header)
    for _, _, _, _, make in tensors:
        file.write(make())

config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5,
          "rope_theta": 500000.0, "max_position_embeddings": 8192, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
          "torch_dtype": "bfloat16", "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}, **shape}
(out / "config.json").write_text(json.dumps(config, indent=1))
for name in ["tokenizer.json", "tokenizer_config.json"]:
    if (arguments.tokenizer / name).exists():
        shutil.copy(arguments.tokenizer / name, out / name)
data = out / "data"
data.mkdir(exist_ok=True)
text = "The quick brown fox jumps over the lazy dog while the cat sleeps in the warm afternoon sun. " * 60
(data / "train.jsonl").write_text("".join(json.dumps({"text": f"{index} {text}"}) + "\n" for index in range(6)))
for method, lines in {
    "lora": 'method = "lora"\nrank = 16\ntarget_modules = ["q_proj", "v_proj"]',
    "eigenmix": 'method = "eigenmix"\nrank = 16\ngradient = { rank = 16, examples = 2 }\ntarget_modules = ["q_proj", "v_proj"]',
}.items():
    (out / f"{method}.toml").write_text(f'''output = "{out}/run-{method}"
[base]
model = "{out}"
[task]
kind = "causal-lm"
[data]
path = "{data}"
format = "text"
max_length = 512
[adapter]
{lines}
[training]
epochs = 1
max_steps = 3
batch_size = 1
learning_rate = 1e-4
gradient_checkpointing = true
''')

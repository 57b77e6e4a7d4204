"""Cuts GGUF files down to their metadata, and collects the ids that other programs make of texts, and logits.

    python make_vocabularies.py GOLDEN     writes vocabulary-*.gguf, tokens.json and reference-*.safetensors beside this file

GOLDEN is the folder that make_gguf.py and check_llama_cpp.py (of the same reference values) wrote: GGUF files, tokens.json
(transformers and SentencePiece), llama_cpp.json (llama.cpp b11549), reference.safetensors (transformers, from decoded weights). Python's standard library alone.
"""
import json, struct, sys
from pathlib import Path

HERE = Path(__file__).parent
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def value_end(b, at, kind):
    if kind == 8:
        return at + 8 + struct.unpack_from("<Q", b, at)[0]
    if kind == 9:
        kind, count = struct.unpack_from("<IQ", b, at)
        at += 12
        for _ in range(count):
            at = value_end(b, at, kind)
        return at
    return at + SIZES[kind]


def metadata_alone(b):
    """The same file without its tensors."""
    assert b[:4] == b"GGUF" and struct.unpack_from("<I", b, 4) == (3,)
    count, at = struct.unpack_from("<Q", b, 16)[0], 24
    for _ in range(count):
        at = value_end(b, at, 8)
        at = value_end(b, at + 4, struct.unpack_from("<I", b, at)[0])
    return b[:8] + struct.pack("<Q", 0) + b[16:at] + bytes(-at % 32)


def some_tensors(b, names):
    """A safetensors file of some of the tensors of another one, by their new names."""
    length = struct.unpack_from("<Q", b)[0]
    header, data = json.loads(b[8:8 + length]), b[8 + length:]
    out, parts, at = {}, [], 0
    for new, old in names.items():
        start, end = header[old]["data_offsets"]
        out[new] = dict(header[old], data_offsets=[at, at + end - start])
        parts.append(data[start:end])
        at += end - start
    text = json.dumps(out).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


golden = Path(sys.argv[1])
reference = (golden / "reference.safetensors").read_bytes()
for family, file in [("llama", "llama-Q4_1"), ("llama3", "llama3-F16")]:
    tensors = some_tensors(reference, {"logits": f"{file}.logits", "input.input_ids": f"{family}.input_ids"})
    (HERE / f"reference-{family}.safetensors").write_bytes(tensors)
ids = {}
others = json.loads((golden / "tokens.json").read_text())
llama_cpp = json.loads((golden / "llama_cpp.json").read_text())["tokens"]
for name in ["llama-F32.gguf", "llama3-F16.gguf", "qwen2-F32.gguf", "gemma2-Q8_0.gguf"]:
    family = name.split("-")[0]
    (HERE / f"vocabulary-{family}.gguf").write_bytes(metadata_alone((golden / name).read_bytes()))
    by_text = {case["text"]: case["ids"] for case in llama_cpp[name]}
    ids[family] = [dict(case, **({"llama_cpp": by_text[case["text"]]} if case["text"] in by_text else {})) for case in others[name]]
lines = [f' "{family}": [\n' + ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in cases) + "\n ]" for family, cases in ids.items()]
(HERE / "tokens.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")

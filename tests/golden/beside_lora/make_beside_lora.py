"""Writes adapters that bring more than LoRA factors, and what transformers and PEFT make of them.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 && python make_beside_lora.py

The base models are those of ../models. `--check` computes the logits again from the files and fails
where one is further away than 2e-5 of the largest.

FAMILY/adapter-VARIANT/         as PEFT saves it
FAMILY/reference.safetensors    of each variant `input.*.VARIANT` and `logits.VARIANT`, in f32

Everything that is trained gets random numbers on top, so large that leaving any of it out would show.
"""

import argparse
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
TOLERANCE = 2e-5

QUERY = dict(target_modules=["q_proj"])
CONV1D = dict(target_modules=["c_attn"], fan_in_fan_out=True)
CLASSIFIER = dict(target_modules=["query"], task_type="SEQ_CLS")

# family: (class, {variant: (tokens of a resized vocabulary, LoraConfig)})
FAMILIES = {
    # Its output layer is its table.
    "qwen2": ("Qwen2ForCausalLM", {
        "biases-norms-layer": (None, dict(QUERY, bias="all", modules_to_save=["norm", "input_layernorm", "o_proj"])),
        "saved-table": (None, dict(QUERY, modules_to_save=["embed_tokens"])),
        "saved-table-tied": (None, dict(QUERY, modules_to_save=["embed_tokens"], ensure_weight_tying=True)),
        "rows": (None, dict(QUERY, trainable_token_indices=[1, 40, 7])),
        "adapted-tables": (None, dict(target_modules=["embed_tokens", "lm_head"])),
    }),
    # It has an output layer of its own.
    "llama": ("LlamaForCausalLM", {
        "resized": (47, dict(QUERY, modules_to_save=["embed_tokens", "lm_head"])),
        "resized-adapted": (41, dict(target_modules=["embed_tokens", "lm_head"])),
        "rows-of-both": (None, dict(QUERY, trainable_token_indices={"embed_tokens": [1, 40], "lm_head": [2, 42]})),
    }),
    "gpt2": ("GPT2LMHeadModel", {
        "biases": (None, dict(CONV1D, bias="all")),
        "positions-norm": (None, dict(CONV1D, modules_to_save=["ln_f"]) | dict(target_modules=["c_attn", "wpe"])),
        "adapted-output": (None, dict(target_modules=["lm_head"])),
    }),
    "bert": ("BertForSequenceClassification", {
        "biases": (None, dict(CLASSIFIER, bias="all")),
        "pooler-table-norms": (None, dict(CLASSIFIER, modules_to_save=[
            "classifier", "pooler", "word_embeddings", "LayerNorm"])),
    }),
}


def base(family, tokens):
    model = getattr(transformers, FAMILIES[family][0]).from_pretrained(
        HERE.parent / "models" / family / "base", dtype=torch.float32)
    if tokens:
        # Both get new rows, which are the same in every run.
        torch.manual_seed(1)
        model.resize_token_embeddings(tokens, mean_resizing=False)
    return model.eval()


def logits(family, variant, inputs):
    tokens, _ = FAMILIES[family][1][variant]
    model = PeftModel.from_pretrained(base(family, tokens), HERE / family / f"adapter-{variant}").eval()
    with torch.no_grad():
        return model(**inputs).logits.contiguous()


def make(family, variant, seed):
    tokens, options = FAMILIES[family][1][variant]
    model = get_peft_model(base(family, tokens), LoraConfig(r=2, lora_alpha=3, **options))
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape)
    directory = HERE / family / f"adapter-{variant}"
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory, save_embedding_layers=True if tokens else "auto")
    (directory / "README.md").unlink()
    path = directory / "adapter_config.json"
    path.write_text(path.read_text().replace(str(HERE.parent), "../../.."))
    last = (tokens or 43) - 1
    ids = torch.tensor([[1, 2, 40, 4, 7, 9, 3], [last, 19, 1, last - 1, 7, 8, 2]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if family == "bert":
        inputs["token_type_ids"] = torch.tensor([[0, 0, 0, 1, 1, 1, 1]] * 2)
    return inputs


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for family, (_, variants) in FAMILIES.items():
        path = HERE / family / "reference.safetensors"
        reference = load_file(path) if check else {}
        for seed, variant in enumerate(variants):
            ending = f".{variant}"
            if check:
                inputs = {name[len("input."):-len(ending)]: tensor for name, tensor in reference.items()
                          if name.startswith("input.") and name.endswith(ending)}
                found, expected = logits(family, variant, inputs), reference[f"logits{ending}"]
                difference = ((found - expected).abs().max() / expected.abs().max()).item()
                print(f"{family} {variant}: {difference:.1e}")
                assert difference < TOLERANCE
                continue
            inputs = make(family, variant, seed)
            reference |= {f"input.{name}{ending}": tensor for name, tensor in inputs.items()}
            reference[f"logits{ending}"] = logits(family, variant, inputs)
        if not check:
            save_file(reference, path)


main()

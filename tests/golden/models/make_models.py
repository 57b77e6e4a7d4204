"""Writes tiny models with random weights, adapters of them, and what transformers and PEFT make of both.

    pip install torch==2.15.0 transformers==4.57.3 peft==0.18.1 && python make_models.py
    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 && python make_models.py

Each run writes the families of the installed transformers (4 or 5, see FAMILIES), so that both ways
of naming the rotary parameters are there: `rope_theta` and `rope_scaling` in published checkpoints and
in files of transformers 4, `rope_parameters` in those of transformers 5. `versions.json` says which
releases made a family, from which seed, and how sure its values are.

    python make_models.py --check

computes the logits again from the files, with the installed release, and fails where one is further
away than 2e-5 of the largest: so that each release checks what the other made. (Not all of it:
transformers 4 cannot read `rope_parameters`, and transformers 5 names the modules of a ViT otherwise
than the published adapters do.)

FAMILY/base/                    as transformers saves it, in half precision where such models are published
FAMILY/adapter-VARIANT/         as PEFT saves it; `moslora` in the convention of the MoSLoRA authors
FAMILY/reference.safetensors    `input.*`, `logits.base` and `logits.VARIANT`, computed in f32

Sizes within a family differ from each other, alpha from the rank, the batch from the length, and the
weights are large enough for every non-linearity to matter. Logits at the padding of a language model
mean nothing. The values of two runs on one machine are the same to the bit.
"""

import argparse
import contextlib
import copy
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
RELEASE = int(transformers.__version__.split(".")[0])
TOLERANCE = 2e-5
BATCH, LENGTH, LENGTHS = 3, 10, (10, 7, 4)
IMAGES = 2

# Where the epsilon of a norm can be chosen, it is so large that a wrong one shows.
EPSILON = 1e-3
DECODER = dict(vocab_size=43, hidden_size=36, intermediate_size=52, num_hidden_layers=2,
               num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=32,
               rms_norm_eps=EPSILON, bos_token_id=1, eos_token_id=2)
ENCODER = dict(vocab_size=43, num_labels=7)

# name: (release of transformers, seed, stored as, class, configuration, keys of the saved
# configuration that published ones lack)
FAMILIES = {
    "bert": (4, 101, "float32", "BertForSequenceClassification", dict(
        ENCODER, hidden_size=28, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=32, type_vocab_size=2, layer_norm_eps=EPSILON), ()),
    "roberta": (5, 102, "float32", "RobertaForSequenceClassification", dict(
        ENCODER, hidden_size=30, intermediate_size=44, num_hidden_layers=2, num_attention_heads=5,
        max_position_embeddings=34, type_vocab_size=1, layer_norm_eps=EPSILON), ()),
    "distilbert": (5, 103, "float32", "DistilBertForSequenceClassification", dict(
        ENCODER, dim=35, hidden_dim=46, n_layers=2, n_heads=5, max_position_embeddings=32), ()),
    "llama": (4, 104, "float16", "LlamaForCausalLM", DECODER, ("head_dim",)),
    "llama3-rope": (4, 105, "bfloat16", "LlamaForCausalLM", dict(
        DECODER, head_dim=10, rope_theta=500000.0, rope_scaling=dict(
            rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=16)), ()),
    "mistral": (5, 106, "bfloat16", "MistralForCausalLM", dict(
        DECODER, head_dim=8, sliding_window=4,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0)), ()),
    # The second layer has a window.
    "qwen2": (4, 107, "bfloat16", "Qwen2ForCausalLM", dict(
        DECODER, rope_theta=1000000.0, tie_word_embeddings=True, use_sliding_window=True,
        sliding_window=4, max_window_layers=1), ("layer_types",)),
    "qwen3": (5, 108, "bfloat16", "Qwen3ForCausalLM", dict(
        DECODER, head_dim=10, rope_parameters=dict(rope_type="default", rope_theta=1000000.0)), ()),
    "gemma2": (4, 109, "bfloat16", "Gemma2ForCausalLM", dict(
        DECODER, head_dim=8, query_pre_attn_scalar=11, sliding_window=4,
        attn_logit_softcapping=5.0, final_logit_softcapping=7.0), ("layer_types",)),
    "gpt2": (4, 110, "float32", "GPT2LMHeadModel", dict(
        vocab_size=43, n_embd=28, n_layer=2, n_head=4, n_positions=32, layer_norm_epsilon=EPSILON,
        bos_token_id=42, eos_token_id=42), ()),
    "llama-seqcls": (5, 111, "float32", "LlamaForSequenceClassification", dict(
        DECODER, num_labels=7, pad_token_id=0, attention_bias=True, mlp_bias=True,
        rope_parameters=dict(rope_type="linear", factor=2.5, rope_theta=10000.0)), ()),
    "vit": (4, 112, "float32", "ViTForImageClassification", dict(
        hidden_size=28, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
        image_size=24, patch_size=6, num_labels=7, layer_norm_eps=EPSILON), ()),
    "clip-vision": (4, 113, "float32", "CLIPVisionModelWithProjection", dict(
        hidden_size=30, intermediate_size=46, num_hidden_layers=2, num_attention_heads=5,
        image_size=20, patch_size=5, projection_dim=18, layer_norm_eps=EPSILON), ()),
}

# Query and value; all linear layers; the heads that are saved whole.
TARGETS = {
    "bert": (["query", "value"], ["query", "key", "value", "attention.output.dense",
                                  "intermediate.dense", "output.dense"], ["classifier"]),
    "distilbert": (["q_lin", "v_lin"], ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"],
                   ["pre_classifier", "classifier"]),
    "llama": (["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj",
                                     "up_proj", "down_proj"], None),
    "gpt2": (["c_attn"], ["c_attn", "c_proj", "c_fc"], None),
    "clip-vision": (["q_proj", "v_proj"],
                    ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"], None),
}
TARGETS |= {"roberta": TARGETS["bert"], "vit": TARGETS["bert"]}
TARGETS |= {name: TARGETS["llama"] for name in FAMILIES if name not in TARGETS}
TARGETS["llama-seqcls"] = (*TARGETS["llama"][:2], ["score"])


def variants(family):
    """The adapters' PEFT configurations. Scaling: 3, 3, 1.5 and 3.5, 2.5, 2, 1.75."""
    some, every, heads = TARGETS[family]
    common = dict(lora_dropout=0.0, fan_in_fan_out=family == "gpt2")
    first = some[0]
    # PEFT adds the names that heads have in any model to those that are given.
    kind = FAMILIES[family][3]
    task = "SEQ_CLS" if "SequenceClass" in kind else "CAUSAL_LM" if "LM" in kind else None
    options = {
        "plain": dict(r=5, lora_alpha=15, target_modules=some, modules_to_save=heads, task_type=task),
        "rslora": dict(r=4, lora_alpha=6, target_modules=every, use_rslora=True),
        "patterns": dict(r=6, lora_alpha=9, target_modules=some, modules_to_save=heads,
                         rank_pattern={first: 2}, alpha_pattern={first: 7}),
        "dora": dict(r=2, lora_alpha=5, target_modules=some, use_dora=True),
        "first-layer": dict(r=3, lora_alpha=6, target_modules=some, layers_to_transform=[0]),
        "moslora": dict(r=4, lora_alpha=7, target_modules=every),
    }
    # Of copies: PEFT changes the lists that it is given.
    return {name: LoraConfig(**common, **copy.deepcopy(chosen)) for name, chosen in options.items()}


def new_model(family):
    _, _, _, kind, sizes, _ = FAMILIES[family]
    model = getattr(transformers, kind)
    config = model.config_class(**sizes)
    config._attn_implementation = "eager"
    return model(config).eval()


def draw_weights(model, family, generator):
    """Weights that keep activations of size 1 and let attention choose; norms that do something."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            is_norm = any(word in name for word in ("norm", "LayerNorm", "layrnorm", "ln_"))
            if is_norm and name.endswith("weight"):
                parameter.copy_(0.25 * drawn + (family != "gemma2"))
            elif parameter.ndim == 1:
                parameter.copy_(0.25 * drawn)
            elif "embed" in name and "patch" not in name or name.split(".")[-2] in ("wte", "wpe"):
                # Gemma multiplies them by 6; tied tables are the output layer too.
                parameter.copy_((0.25 if family == "gemma2" else 0.6) * drawn)
            else:
                # GPT-2 stores [d_in, d_out].
                transposed = family == "gpt2" and "lm_head" not in name
                inputs = parameter.shape[0] if transposed else parameter[0].numel()
                parameter.copy_(1.3 * inputs**-0.5 * drawn)


def draw_adapter(model, generator):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            drawn = torch.randn(parameter.shape, generator=generator)
            if "lora_A" in name:
                parameter.copy_(0.25 * drawn)
            elif "lora_B" in name:
                parameter.copy_(0.12 * drawn)
            elif "magnitude" in name:
                parameter.mul_(1 + 0.2 * drawn)
            else:
                deviation = 1.3 * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.25
                parameter.copy_(deviation * drawn)


def draw_inputs(model, generator):
    config = model.config
    if config.model_type in ("vit", "clip_vision_model"):
        size = (IMAGES, 3, config.image_size, config.image_size)
        return {"pixel_values": torch.randn(size, generator=generator)}
    ids = torch.randint(5, config.vocab_size - 1, (BATCH, LENGTH), generator=generator)
    mask = torch.tensor([[int(place < length) for place in range(LENGTH)] for length in LENGTHS])
    padding = config.pad_token_id if config.pad_token_id is not None else 0
    inputs = {"input_ids": ids * mask + padding * (1 - mask), "attention_mask": mask}
    if config.model_type == "bert":
        second = torch.tensor([[int(place >= 4) for place in range(LENGTH)]] * BATCH)
        inputs["token_type_ids"] = second * mask
    return inputs


def logits(model, inputs):
    with torch.no_grad():
        output = model(**inputs)
    return (output["image_embeds"] if "image_embeds" in output else output["logits"]).contiguous()


@contextlib.contextmanager
def everything_in_float64():
    """Norms, softmax and rotary angles too, which transformers computes in float32 by name."""
    kept = torch.float32, torch.float, torch.Tensor.float, torch.get_default_dtype()
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept[:3]
        torch.set_default_dtype(kept[3])


def in_float64(family, weights, adapter, config, inputs):
    """The same logits, from the state dictionaries of the base and of the adapted model."""
    doubles = lambda tensors: {name: tensor.double() for name, tensor in tensors.items()}
    with everything_in_float64():
        model = new_model(family).double()
        model.load_state_dict(doubles(weights))
        if adapter is not None:
            model = get_peft_model(model, config).eval()
            model.load_state_dict(doubles(adapter))
        assert all(parameter.dtype == torch.float64 for parameter in model.parameters())
        wide = {name: tensor.double() if tensor.is_floating_point() else tensor
                for name, tensor in inputs.items()}
        found = logits(model, wide)
    assert found.dtype == torch.float64
    return found


def distance(found, expected, inputs):
    """The largest difference relative to the largest logit, without a language model's padding."""
    if expected.ndim == 3:
        kept = inputs["attention_mask"].bool()
        found, expected = found[kept], expected[kept]
    return ((found - expected).abs().max() / expected.abs().max()).item()


def fold_mixers(model, mixers):
    """ΔW = s·B·W·A: A becomes W·A, which PEFT knows how to run."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                path = name.replace(".default", "").replace("lora_A", "lora_AB")
                parameter.copy_(mixers[path].to(parameter.dtype) @ parameter)


def save_adapter(model, folder, mixers):
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    # A set has no order of its own.
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = "../base"
    if mixers:
        config["lora_use_mixer"] = True
        weights = folder / "adapter_model.safetensors"
        save_file(load_file(weights) | mixers, weights, {"format": "pt"})
    path.write_text(json.dumps(config, indent=2) + "\n")


def make(family):
    _, seed, stored, kind, _, unpublished = FAMILIES[family]
    generator = torch.Generator().manual_seed(seed)
    folder = HERE / family
    base = folder / "base"
    torch.manual_seed(seed)
    model = new_model(family)
    draw_weights(model, family, generator)
    model.to(getattr(torch, stored)).save_pretrained(base)
    config = json.loads((base / "config.json").read_text())
    config = {key: value for key, value in config.items() if key not in unpublished}
    (base / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    weights = {name: tensor.float() for name, tensor in model.state_dict().items()}
    inputs = draw_inputs(model, generator)
    tensors = {f"input.{name}": tensor for name, tensor in inputs.items()}
    rounding, effects = {}, {}

    def fresh():
        model = new_model(family)
        model.load_state_dict(weights)
        return model

    tensors["logits.base"] = logits(fresh(), inputs)
    exact = in_float64(family, weights, None, None, inputs)
    rounding["base"] = distance(tensors["logits.base"], exact, inputs)
    for variant, config in variants(family).items():
        torch.manual_seed(seed)
        adapted = get_peft_model(fresh(), config).eval()
        draw_adapter(adapted, generator)
        mixers = {}
        if variant == "moslora":
            for name, parameter in adapted.named_parameters():
                if "lora_A" in name:
                    path = name.replace(".default", "").replace("lora_A", "lora_AB")
                    rank = parameter.shape[0]
                    mixers[path] = 0.5 * torch.randn(rank, rank, generator=generator)
        save_adapter(adapted, folder / f"adapter-{variant}", mixers)
        if mixers:
            fold_mixers(adapted, mixers)
        found = logits(adapted, inputs)
        exact = in_float64(family, weights, adapted.state_dict(), config, inputs)
        tensors[f"logits.{variant}"] = found
        rounding[variant] = distance(found, exact, inputs)
        others = [tensors[name] for name in tensors if name.startswith("logits.")][:-1]
        effects[variant] = min(distance(other, found, inputs) for other in others)
    assert all(tensor.isfinite().all() for tensor in tensors.values()), family
    assert max(rounding.values()) < TOLERANCE / 8, (family, rounding)
    # From the base model and from every other variant.
    assert min(effects.values()) > 1000 * TOLERANCE, (family, effects)
    save_file(tensors, folder / "reference.safetensors")
    return {
        "transformers": transformers.__version__, "peft": peft.__version__,
        "torch": torch.__version__, "seed": seed, "class": kind, "weights": stored,
        "largest_logit": float(f"{tensors['logits.base'].abs().max().item():.3g}"),
        "float32_against_float64": {name: float(f"{x:.2g}") for name, x in rounding.items()},
        "smallest_difference_between_variants": float(f"{min(effects.values()):.2g}"),
    }


def is_readable(family):
    """Whether this release reads the configuration and the adapters as the one that made them."""
    config = json.loads((HERE / family / "base" / "config.json").read_text())
    return family != "vit" and RELEASE >= 5 or RELEASE == 4 and "rope_parameters" not in config


def check(family):
    folder = HERE / family
    model = getattr(transformers, FAMILIES[family][3])
    reference = load_file(folder / "reference.safetensors")
    inputs = {name.removeprefix("input."): tensor for name, tensor in reference.items()
              if name.startswith("input.")}
    worst = 0.0
    for variant in ("base", *variants(family)):
        loaded = model.from_pretrained(folder / "base", dtype=torch.float32,
                                       attn_implementation="eager").eval()
        if variant != "base":
            directory = folder / f"adapter-{variant}"
            mixers = {}
            if variant == "moslora":
                tensors = load_file(directory / "adapter_model.safetensors")
                mixers = {name: tensor for name, tensor in tensors.items() if "lora_AB" in name}
            loaded = PeftModel.from_pretrained(loaded, directory).eval()
            if mixers:
                fold_mixers(loaded, mixers)
        found = distance(logits(loaded, inputs), reference[f"logits.{variant}"], inputs)
        assert found < TOLERANCE, (family, variant, found)
        worst = max(worst, found)
    return worst


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--check", action="store_true", help="compare the files, write nothing")
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    if arguments.parse_args().check:
        for family in FAMILIES:
            if is_readable(family):
                print(f"{family}: {check(family):.1e}")
        return
    path = HERE / "versions.json"
    versions = json.loads(path.read_text()) if path.exists() else {}
    for family, (release, *_) in FAMILIES.items():
        if release == RELEASE:
            versions[family] = make(family)
            print(family, json.dumps(versions[family]))
    versions = {family: versions[family] for family in FAMILIES if family in versions}
    path.write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()

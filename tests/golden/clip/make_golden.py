"""Writes a tiny CLIP, two adapters of it and what transformers and PEFT make of them.

    pip install torch transformers==4.57.3 peft==0.18.1
    python make_golden.py

No two sizes are alike, weights are large enough for every non-linearity to matter, and all of them
are rounded to f16, in which the checkpoint is stored, before anything is computed in f32.
"""

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, CLIPTokenizerFast

HERE = Path(__file__).parent
BASE = HERE / "base"
LABELS = ["dog", "cat_toy", "map", "a pot", "oven"]
TEMPLATES = ["a photo of a {}.", "the {}: TOY"]
IMAGES, SIZE = 3, 32
TARGETS = [2, 0, 4]


def write_vocabulary():
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    symbols = letters + [letter + "</w>" for letter in letters] + [".</w>", ":</w>"]
    merges = [("p", "h"), ("ph", "o"), ("t", "o</w>"), ("pho", "to</w>"), ("o", "f</w>"),
              ("o", "g</w>"), ("d", "og</w>"), ("t", "h")]
    tokens = symbols + ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    assert len(tokens) == 64, len(tokens)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (BASE / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2"] + [" ".join(pair) for pair in merges]
    (BASE / "merges.txt").write_text("\n".join(lines) + "\n")


def config(end_of_text):
    return CLIPConfig(
        text_config=dict(vocab_size=64, hidden_size=16, intermediate_size=28, num_hidden_layers=2,
                         num_attention_heads=2, max_position_embeddings=24, projection_dim=10,
                         bos_token_id=62, eos_token_id=end_of_text, pad_token_id=63),
        vision_config=dict(hidden_size=12, intermediate_size=20, num_hidden_layers=2,
                           num_attention_heads=3, image_size=SIZE, patch_size=8, projection_dim=10),
        projection_dim=10,
    )


def pixels():
    """Numbers that another program can make exactly: (37 i mod 101) / 64 − 0.75."""
    count = IMAGES * 3 * SIZE * SIZE
    numbers = torch.arange(count) * 37 % 101 / 64 - 0.75
    return numbers.reshape(IMAGES, 3, SIZE, SIZE)


def spread(parameters, deviation):
    with torch.no_grad():
        for parameter in parameters:
            drawn = torch.randn(parameter.shape) * deviation
            parameter.copy_((parameter + drawn).half().float())


def unit(features):
    return features / features.norm(dim=-1, keepdim=True)


def ensemble(model, tokenizer, templates):
    classes = []
    for label in LABELS:
        prompts = [template.replace("{}", label.replace("_", " ")) for template in templates]
        inputs = tokenizer(prompts, padding=True, return_tensors="pt")
        classes.append(unit(unit(model.get_text_features(**inputs)).mean(dim=0)))
    return torch.stack(classes)


def logits(model, features):
    images = unit(model.get_image_features(pixel_values=pixels()))
    return model.logit_scale.exp() * images @ features.T


def lora(seed, **options):
    torch.manual_seed(seed)
    return LoraConfig(r=2, lora_alpha=3, lora_dropout=0.0, **options)


def main():
    torch.manual_seed(5)
    BASE.mkdir(exist_ok=True)
    write_vocabulary()
    model = CLIPModel(config(63)).eval()
    spread((parameter for name, parameter in model.named_parameters() if name != "logit_scale"), 0.25)
    spread([model.logit_scale], 0.0)
    model.half().save_pretrained(BASE)
    model = model.float()
    slow = CLIPTokenizer(str(BASE / "vocab.json"), str(BASE / "merges.txt"))
    tokenizer = CLIPTokenizerFast(str(BASE / "vocab.json"), str(BASE / "merges.txt"))
    tokenizer.backend_tokenizer.save(str(HERE / "tokenizer.json"))
    (BASE / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}\n')
    (BASE / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "CLIPImageProcessor", "do_resize": True,
        "size": {"shortest_edge": SIZE}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": SIZE, "width": SIZE}, "do_rescale": True, "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711]}, indent=2) + "\n")

    tensors = {}
    # What the tokenizer makes of prompts, and of text that is not clean.
    texts = [TEMPLATES[0].format("dog"), "The  PHOTO of:\tÉ a dog's", "dogdog of the sea."]
    for index, text in enumerate(texts):
        ids = tokenizer(text).input_ids
        print(text, ids, slow(text).input_ids)
        tensors[f"text.{index}.ids"] = torch.tensor(ids)

    # Sequences where the two ways of finding the end of a text differ: the first 50, the largest id.
    ids = torch.tensor([[62, 5, 50, 7, 63, 50, 9, 63], [62, 63, 8, 61, 50, 63, 50, 2]])
    tensors["input_ids"] = ids
    features = {"first": 50, "largest": 2}
    for name, end_of_text in features.items():
        variant = CLIPModel(config(end_of_text)).eval()
        variant.load_state_dict(model.state_dict())
        with torch.no_grad():
            tensors[f"text_features.{name}"] = variant.get_text_features(input_ids=ids)

    with torch.no_grad():
        tensors["image_features"] = model.get_image_features(pixel_values=pixels())
        one = tokenizer([TEMPLATES[0].replace("{}", label.replace("_", " ")) for label in LABELS],
                        padding=True, return_tensors="pt")
        tensors["logits.base"] = model(pixel_values=pixels(), **one).logits_per_image
        tensors["logits.two_templates"] = logits(model, ensemble(model, tokenizer, TEMPLATES))

    vision = CLIPModel(config(63)).eval()
    vision.load_state_dict(model.state_dict())
    adapted = get_peft_model(vision.vision_model, lora(6, target_modules=["q_proj", "v_proj", "fc1"]))
    factors = {name: parameter for name, parameter in adapted.named_parameters() if "lora_" in name}
    spread(factors.values(), 0.3)
    # PEFT changes layers in place, so the whole model is adapted. The names of the file are those that
    # an adapter of CLIPVisionModel has.
    text = ensemble(model, tokenizer, TEMPLATES[:1]).detach()
    tensors["text_features.labels"] = text
    found = logits(vision, text)
    tensors["logits.vision"] = found.detach()
    loss = torch.nn.functional.cross_entropy(found, torch.tensor(TARGETS))
    loss.backward()
    tensors["loss"] = loss.detach().reshape(1)
    weights = {}
    for name, parameter in factors.items():
        path = name.replace("base_model.model.", "vision_model.").replace(".default", "")
        weights["base_model.model." + path] = parameter.detach().contiguous()
        tensors["gradient." + path] = parameter.grad.contiguous()
    (HERE / "adapter-vision").mkdir(exist_ok=True)
    save_file(weights, HERE / "adapter-vision" / "adapter_model.safetensors", {"format": "pt"})
    adapted.peft_config["default"].base_model_name_or_path = "tiny-clip"
    write_config(adapted.peft_config["default"], HERE / "adapter-vision")

    whole = CLIPModel(config(63)).eval()
    whole.load_state_dict(model.state_dict())
    options = dict(target_modules=["k_proj", "out_proj", "visual_projection", "text_projection"])
    adapted = get_peft_model(whole, lora(7, **options))
    spread((parameter for name, parameter in adapted.named_parameters() if "lora_" in name), 0.3)
    with torch.no_grad():
        tensors["logits.both_towers"] = logits(whole, ensemble(whole, tokenizer, TEMPLATES))
    adapted.save_pretrained(HERE / "adapter-both-towers")
    adapted.peft_config["default"].base_model_name_or_path = "tiny-clip"
    write_config(adapted.peft_config["default"], HERE / "adapter-both-towers")
    (HERE / "adapter-both-towers" / "README.md").unlink(missing_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, HERE / "reference.safetensors")
    for name in ("logits.base", "logits.two_templates", "logits.vision", "logits.both_towers"):
        print(name, tensors[name])
    print("loss", tensors["loss"])


def write_config(peft, folder):
    keys = ["peft_type", "base_model_name_or_path", "r", "lora_alpha", "lora_dropout", "bias",
            "target_modules", "fan_in_fan_out", "use_rslora"]
    values = peft.to_dict()
    kept = {key: values[key] for key in keys}
    kept["peft_type"] = "LORA"
    kept["target_modules"] = sorted(kept["target_modules"])
    (folder / "adapter_config.json").write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()

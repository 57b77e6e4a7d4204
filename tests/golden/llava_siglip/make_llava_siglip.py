"""A tiny LLaVA with SigLIP's tower and Qwen 2 below it, as llava-interleave has them, with random weights, and
reference values from transformers and PEFT.

    python make_llava_siglip.py --seed 0     writes its directories beside this file

Features are all rows of the tower's last layer (`vision_feature_layer` -1, "full"), without its norm; SigLIP
has no class token, and its patches may leave a margin, as those of 14 in 384 pixels do.
Versions, tokenizer, images and templates are those of ../llava/make_llava.py.
"""
import argparse, json, math, shutil, sys
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "llava"))
from make_llava import TEMPLATE, chat, make_images, make_tokenizer, normal, randomise
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (AutoProcessor, AutoTokenizer, GenerationConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor,
                          Qwen2Config, SiglipVisionConfig)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

SHAPES = {
    0: dict(vision=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, patch_size=5, image_size=17),
            text=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2),
            layer=-1, select="full", images=[("RGB", 19, 14), ("RGB", 15, 15), ("L", 13, 30)]),
    7: dict(vision=dict(hidden_size=30, intermediate_size=44, num_hidden_layers=3, num_attention_heads=5, patch_size=4, image_size=16),
            text=dict(hidden_size=36, intermediate_size=52, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3),
            layer=-2, select="default", images=[("RGB", 20, 31), ("RGB", 27, 22), ("RGBA", 40, 21)]),
}


def main(seed, out):
    s, ref = SHAPES[seed], {}
    for name in ("base", "adapter", "images"):
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    fast = make_tokenizer(60)
    image_id, pad_id = fast.token_to_id("<image>"), fast.token_to_id("<pad>")
    size, patch = s["vision"]["image_size"], s["vision"]["patch_size"]
    config = LlavaConfig(vision_config=SiglipVisionConfig(**s["vision"]),
                         text_config=Qwen2Config(**s["text"], vocab_size=pad_id + 3, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=pad_id),
                         image_token_index=image_id, vision_feature_layer=s["layer"], vision_feature_select_strategy=s["select"], image_seq_length=(size // patch) ** 2)
    model = randomise(LlavaForConditionalGeneration(config), seed)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=pad_id)
    base = out / "base"
    model.save_pretrained(base)
    fast.save(str(base / "tokenizer.json"))
    (base / "tokenizer_config.json").write_text(json.dumps(dict(add_bos_token=True, add_eos_token=False, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        clean_up_tokenization_spaces=False, extra_special_tokens={"image_token": "<image>"}, image_token="<image>", legacy=True, model_max_length=128, padding_side="right",
        tokenizer_class="LlamaTokenizer"), indent=2))
    processor = LlavaProcessor(SiglipImageProcessorPil(size={"height": size, "width": size}, do_convert_rgb=True), AutoTokenizer.from_pretrained(base), patch_size=patch,
                               vision_feature_select_strategy=s["select"], num_additional_image_tokens=0, chat_template=TEMPLATE)
    processor.save_pretrained(base)
    own = processor.image_processor
    processor = AutoProcessor.from_pretrained(base)
    # Not that of torchvision, which is taken where it is installed and differs by a grey level.
    processor.image_processor = own

    images = make_images(out / "images", seed, s["images"])
    for i, image in enumerate(images):
        ref[f"pixel_values.image-{i}"] = processor.image_processor(image, return_tensors="pt").pixel_values
    talk = {"one": [chat(("user", "What is in the image?", 1)), chat(("user", "what is the colour of the fox, red or white?", 1))],
            "two": [chat(("user", "How many boats are there in the two images?", 2), ("assistant", "There are three boats.", 0), ("user", "red?", 0))]}
    which = {"one": [images[0], images[2]], "two": [images[1], images[0]]}
    inputs = {}
    for name, conversations in talk.items():
        prompts = [processor.apply_chat_template(c, add_generation_prompt=True, tokenize=False) for c in conversations]
        x = processor(text=prompts, images=which[name], padding=True, return_tensors="pt")
        inputs[name] = {k: x[k] for k in ("input_ids", "attention_mask", "pixel_values")}
        ref.update({f"{name}.{k}": v for k, v in inputs[name].items()})

    def forward(m, tag):
        for name, x in inputs.items():
            with torch.no_grad():
                ref[f"{name}.logits.{tag}"] = m(**x).logits

    forward(model, "base")
    with torch.no_grad():
        ref["two.image_features"] = torch.stack(list(model.get_image_features(inputs["two"]["pixel_values"], return_dict=True).pooler_output))

    # PEFT adapts the pooling head too, whose layers have these names; nothing comes of it.
    adapter = LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj", "out_proj", "o_proj", "fc1", "fc2", "up_proj"], modules_to_save=["multi_modal_projector"])
    fresh = lambda: LlavaForConditionalGeneration.from_pretrained(base)
    m = get_peft_model(fresh(), adapter).eval()
    with torch.no_grad():
        for n, p in m.named_parameters():
            if "lora_A" in n:
                p.copy_(normal(p.shape, seed, n) / math.sqrt(p.shape[1]))
            elif "lora_B" in n:
                p.copy_(normal(p.shape, seed, n) * 0.5 / math.sqrt(p.shape[1]))
            elif "modules_to_save" in n:
                p.add_(normal(p.shape, seed, n) * 0.1)
    m.save_pretrained(out / "adapter")
    (out / "adapter" / "README.md").unlink(missing_ok=True)
    path = out / "adapter" / "adapter_config.json"
    d = json.loads(path.read_text())
    d.update(base_model_name_or_path="../base", target_modules=sorted(d["target_modules"]))
    path.write_text(json.dumps(d, indent=2, sort_keys=True) + "\n")
    forward(m, "adapter")

    # Ten steps of AdamW from this adapter.
    rows, labels = [], []
    for i, (question, answer) in enumerate([("What is in the image?", "A red fox sits on the snow."), ("How many boats are there?", "There are three boats.")]):
        prompt = processor.apply_chat_template(chat(("user", question, 1)), add_generation_prompt=True, tokenize=False)
        x = processor(text=[prompt + " " + answer + "</s>"], images=[images[i]], return_tensors="pt")
        y = x.input_ids[0].clone()
        y[:processor(text=[prompt], images=[images[i]], return_tensors="pt").input_ids.shape[1]] = -100
        rows.append(x)
        labels.append(y)
    width = max(r.input_ids.shape[1] for r in rows)
    pad = lambda t, v: torch.cat([t, torch.full((width - t.shape[0],), v)])
    batch = dict(input_ids=torch.stack([pad(r.input_ids[0], pad_id) for r in rows]), attention_mask=torch.stack([pad(r.attention_mask[0], 0) for r in rows]),
                 pixel_values=torch.cat([r.pixel_values for r in rows]))
    target = torch.stack([pad(y, -100) for y in labels])
    m = PeftModel.from_pretrained(fresh(), out / "adapter", is_trainable=True).eval()
    params = [p for p in m.parameters() if p.requires_grad]
    opt, losses = torch.optim.AdamW(params, lr=1e-3, weight_decay=1e-2), []
    for step in range(11):
        loss = m(**batch, labels=target).loss
        losses.append(loss.item())
        opt.zero_grad()
        loss.backward()
        opt.step()
    ref["train.steps"] = torch.tensor(losses)
    print(losses[0], losses[-1], "moved", float((ref["two.logits.adapter"] - ref["two.logits.base"]).abs().max()))
    save_file({k: v.contiguous() for k, v in ref.items()}, out / "reference.safetensors")
    print(f"{sum(f.stat().st_size for f in out.rglob('*') if f.is_file()) / 1e6:.2f} MB")


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("--seed", type=int, required=True, choices=list(SHAPES))
    a.add_argument("--out", type=Path, default=HERE)
    a = a.parse_args()
    main(a.seed, a.out)

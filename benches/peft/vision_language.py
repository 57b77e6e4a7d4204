"""Times a step of visual instruction tuning beside transformers and PEFT: LoRA on all layers of a small LLaVA.

    python vision_language.py make DIR                  a model of random weights (tower 6 x 384, decoder 124 M) and data
    python vision_language.py peft DIR [--steps N]      PEFT's side, one JSON object: median seconds of a step, peak bytes
    python vision_language.py eigenmix DIR EIGENMIX     ours, by the training file that `make` wrote

A step is four conversations with an image each. Run the two alone, one after the other.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "gate_proj", "up_proj", "down_proj", "fc1", "fc2"]
WORDS = 60


def make(folder):
    import numpy as np
    import torch
    from PIL import Image
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    base, data = folder / "base", folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    words = ["<unk>", "<s>", "</s>", "<image>", "<pad>", "USER:", "ASSISTANT:"] + [f"w{i}" for i in range(31990)]
    vision = CLIPVisionConfig(hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=6, patch_size=14, image_size=224, projection_dim=64)
    text = LlamaConfig(vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=10, num_attention_heads=12, num_key_value_heads=12,
                       max_position_embeddings=2048, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=4)
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=3, image_seq_length=256))
    model.save_pretrained(base)
    print("decoder", sum(p.numel() for n, p in model.named_parameters() if "language_model" in n or "lm_head" in n))
    t = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    t.add_special_tokens([AddedToken(w, normalized=False, special=True) for w in words[:5]])
    t.save(str(base / "tokenizer.json"))
    (base / "tokenizer_config.json").write_text(json.dumps(dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")))
    (base / "processor_config.json").write_text(json.dumps(dict(image_processor=dict(image_processor_type="CLIPImageProcessor", size=dict(shortest_edge=224),
        crop_size=dict(height=224, width=224)), image_token="<image>", num_additional_image_tokens=1, patch_size=14, vision_feature_select_strategy="default")))
    rows = []
    for i in range(4):
        noise = np.random.default_rng(i)
        Image.fromarray(noise.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(data / f"{i}.png")
        said = [f"w{j}" for j in noise.integers(0, 31990, WORDS)]
        rows.append(dict(prompt="USER: <image> " + " ".join(said[: WORDS // 2]) + " ASSISTANT:", completion=" " + " ".join(said[WORDS // 2:]), image=f"{i}.png"))
    (data / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    targets = json.dumps(TARGETS)
    (folder / "train.toml").write_text(f'''output = "run"
[base]
model = "base"
[task]
kind = "vision-language"
[data]
path = "data"
max_length = 512
[adapter]
method = "lora"
rank = 8
alpha = 16
target_modules = {targets}
[training]
epochs = 12
batch_size = 4
learning_rate = 1e-4
scheduler = "constant"
evaluate_every = 0
log_every = 1
''')


def peft(folder, steps):
    import torch
    from peft import LoraConfig, get_peft_model
    from PIL import Image
    from tokenizers import Tokenizer
    from transformers import CLIPImageProcessor, LlavaForConditionalGeneration

    torch.set_num_threads(2)
    torch.manual_seed(0)
    base = folder / "base"
    model = LlavaForConditionalGeneration.from_pretrained(base)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS))
    model.train()
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    processor = CLIPImageProcessor(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    rows = [json.loads(line) for line in (folder / "data/train.jsonl").read_text().splitlines()]
    ids, labels = [], []
    for row in rows:
        prompt = tokenizer.encode(row["prompt"]).ids
        prompt = [token for one in prompt for token in ([3] * 256 if one == 3 else [one])]
        answer = tokenizer.encode(row["completion"], add_special_tokens=False).ids + [2]
        ids.append(prompt + answer)
        labels.append([-100] * len(prompt) + answer)
    pixels = processor([Image.open(folder / "data" / row["image"]) for row in rows], return_tensors="pt").pixel_values
    batch = dict(input_ids=torch.tensor(ids), pixel_values=pixels, labels=torch.tensor(labels))
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    times, losses = [], []
    for _ in range(steps):
        start = time.perf_counter()
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(dict(seconds=statistics.median(times[1:]), fastest=min(times), peak=peak, losses=losses[:2])))


def eigenmix(folder, binary):
    start = time.perf_counter()
    subprocess.run([binary, "train", "train.toml", "--force"], cwd=folder, check=True, stdout=sys.stderr, env=dict(os.environ, RAYON_NUM_THREADS="2"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    steps = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines() if "learning_rate" in line]
    times = [4 / step["examples_per_second"] for step in steps]
    print(json.dumps(dict(seconds=statistics.median(times[1:]), fastest=min(times), peak=peak, total=time.perf_counter() - start, losses=[s["loss"] for s in steps[:2]])))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["make", "peft", "eigenmix"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("binary", nargs="?")
    parser.add_argument("--steps", type=int, default=12)
    a = parser.parse_args()
    if a.side == "make":
        make(a.folder)
    elif a.side == "peft":
        peft(a.folder, a.steps)
    else:
        eigenmix(a.folder, str(Path(a.binary).resolve()))

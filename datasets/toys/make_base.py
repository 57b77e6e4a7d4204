"""A tiny Stable Diffusion 1.x for pictures of one shape on a plain background.

    python make_base.py          writes base/ beside this file (about a quarter of an hour on one core)
    python make_base.py TURN     one turn of training the UNet, with what is there from those before

"a large red circle on a white background", some words left out by turns. An autoencoder of 4 x 8 x 8 latents
learns any clutter of shapes and bars; then CLIP's text encoder and the UNet learn noise from captions
together, in turns of other pictures, each of which starts from what the last one stored. The toys of
`make_pictures.py` are in neither. Made with torch 2.15, diffusers 0.42.1 and transformers 5.24, float32, stored in
half precision. The same seed on the same machine gives the same files.
"""
import json
import math
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from drawing import COLOURS, SHAPES, clutter, one_shape

BASE = Path(__file__).parent / "base"
LENGTH = 20
VAE_STEPS, UNET_STEPS, TURNS, BATCH, PICTURES = 3000, 4000, 2, 16, 12000
ARTICLES = "aeiou"


def article(word):
    return ("an " if word[0] in ARTICLES else "a ") + word


def caption(shape, colour, background, radius_word, draw):
    """What a picture shows, now and then without its background or its size, or by a word that tells nothing."""
    noun = f"{colour} {shape}"
    if draw.random() < 0.1:
        noun = "".join(chr(ord("a") + draw.integers(26)) for _ in range(draw.integers(3, 6)))
    elif draw.random() < 0.3:
        noun = f"{radius_word} {noun}"
    text = article(noun)
    if draw.random() < 0.7:
        text += f" on {article(background)} background"
    return ("a photo of " if draw.random() < 0.2 else "") + text


def make_tokenizer(words):
    """CLIP's byte-level BPE with `</w>`: every word of the captions is one token, other words are letters."""
    letters = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = [chr(b) for b in letters] + [chr(256 + i) for i in range(256 - len(letters))]
    merges = []
    for word in words:
        parts = list(word[:-1]) + [word[-1] + "</w>"]
        for merge in merges:
            at = 0
            while at + 1 < len(parts):
                if (parts[at], parts[at + 1]) == merge:
                    parts[at:at + 2] = ["".join(merge)]
                at += 1
        while len(parts) > 1:
            merges.append((parts[-2], parts[-1]))
            parts[-2:] = ["".join(parts[-2:])]
    vocabulary = letters + [c + "</w>" for c in letters] + [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    out = BASE / "tokenizer"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    (out / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}, ensure_ascii=False) + "\n")
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>", pad_token="<|endoftext|>")
    write(out / "special_tokens_map.json", special)
    write(out / "tokenizer_config.json", dict(add_prefix_space=False, do_lower_case=True, errors="replace", model_max_length=LENGTH,
                                              tokenizer_class="CLIPTokenizer", **special))
    tokenizer = CLIPTokenizer.from_pretrained(out)
    for word in words:
        assert len(tokenizer(word).input_ids) == 3, word
    return tokenizer, len(vocabulary)


def write(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def pixels(pictures):
    """[n, 3, 32, 32], -1 to 1"""
    return torch.tensor(np.stack(pictures), dtype=torch.float32).permute(0, 3, 1, 2) / 127.5 - 1


def cosine(optimizer, step, steps, most):
    for group in optimizer.param_groups:
        group["lr"] = most * min(1, (step + 1) / 200) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))


def train_vae():
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    vae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=(8, 16, 32),
                        layers_per_block=1, latent_channels=4, norm_num_groups=8, sample_size=32, scaling_factor=1.0)
    print("vae", sum(p.numel() for p in vae.parameters()), flush=True)
    names = list(COLOURS)
    one = lambda: one_shape(SHAPES[draw.integers(6)], names[draw.integers(8)], names[draw.integers(8)], draw)
    known = pixels([clutter(draw) if draw.random() < 0.7 else one() for _ in range(PICTURES)])
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=0.0, fused=True)
    for step in range(VAE_STEPS):
        cosine(optimizer, step, VAE_STEPS, 2e-3)
        x = known[torch.randint(0, len(known), (BATCH,))]
        posterior = vae.encode(x).latent_dist
        out = vae.decode(posterior.sample()).sample
        error = (out - x).abs().mean() + 2 * F.mse_loss(out, x)
        loss = error + 1e-5 * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 500 == 0 or step == VAE_STEPS - 1:
            print("vae", step, round(error.item(), 4), "mse", round(F.mse_loss(out, x).item(), 5), flush=True)
    vae.eval()
    with torch.no_grad():
        latents = torch.cat([vae.encode(part).latent_dist.mean for part in known[:4000].split(500)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    print("scaling", vae.config.scaling_factor, "means", latents.mean((0, 2, 3)).tolist(), flush=True)
    vae.half().save_pretrained(BASE / "vae")


def train_unet(vae, turn):
    """The text encoder and the UNet, together."""
    torch.manual_seed(1 + turn)
    draw, started = np.random.default_rng(1 + turn), time.time()
    words = ["a", "an", "photo", "of", "on", "background", "small", "large", "toy", *COLOURS, *SHAPES]
    tokenizer, tokens = make_tokenizer(words)
    start, end = tokenizer.convert_tokens_to_ids(["<|startoftext|>", "<|endoftext|>"])
    text = CLIPTextModel(CLIPTextConfig(vocab_size=tokens, hidden_size=48, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                                        max_position_embeddings=LENGTH, projection_dim=48, bos_token_id=start, eos_token_id=end, pad_token_id=end,
                                        attn_implementation="eager"))
    unet = UNet2DConditionModel(sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, attention_head_dim=4,
                                cross_attention_dim=48, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    if turn > 0:
        unet = UNet2DConditionModel.from_pretrained(BASE / "unet").float().train()
        text = CLIPTextModel.from_pretrained(BASE / "text_encoder", attn_implementation="eager").float().train()
    schedule = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    print("unet", sum(p.numel() for p in unet.parameters()), "text", sum(p.numel() for p in text.parameters()), flush=True)

    names, pictures, captions = list(COLOURS), [], []
    for _ in range(PICTURES):
        shape = SHAPES[draw.integers(len(SHAPES))]
        colour, background = draw.choice(len(names), 2, replace=False)
        small = bool(draw.random() < 0.5)
        pictures.append(one_shape(shape, names[colour], names[background], draw, (5, 8.5) if small else (8.5, 13)))
        captions.append(caption(shape, names[colour], names[background], "small" if small else "large", draw))
    with torch.no_grad():
        latents = torch.cat([vae.encode(part).latent_dist.mean for part in pixels(pictures).split(500)]) * vae.config.scaling_factor
    ids = tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
    empty = tokenizer([""], padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids

    parameters = [*unet.parameters(), *text.parameters()]
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01, fused=True)
    running = 0.0
    for step in range(UNET_STEPS):
        cosine(optimizer, step, UNET_STEPS, 2e-3)
        rows = torch.randint(0, len(latents), (BATCH,))
        x, noise, times = latents[rows], torch.randn(BATCH, 4, 8, 8), torch.randint(0, 1000, (BATCH,))
        dropped = torch.rand(BATCH, 1) < 0.1
        states = text(torch.where(dropped, empty, ids[rows])).last_hidden_state
        loss = F.mse_loss(unet(schedule.add_noise(x, noise, times), times, states).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - min(0.999, (step + 1) / (step + 10)))
        running = loss.item() if step == 0 else 0.99 * running + 0.01 * loss.item()
        if step % 500 == 0 or step == UNET_STEPS - 1:
            print("unet", step, round(running, 4), "seconds", round(time.time() - started), flush=True)
    with torch.no_grad():
        for p, mean in zip(parameters, average):
            p.copy_(mean)

    unet.half().save_pretrained(BASE / "unet")
    # diffusers notes where the weights of the turn before were.
    path = BASE / "unet" / "config.json"
    write(path, {key: value for key, value in json.loads(path.read_text()).items() if key != "_name_or_path"})
    text.half().save_pretrained(BASE / "text_encoder")
    # transformers 5 leaves out the `text_model.` that every published file has.
    path = BASE / "text_encoder" / "model.safetensors"
    save_file({k if k.startswith("text_model.") else "text_model." + k: v for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    schedule.save_pretrained(BASE / "scheduler")
    write(BASE / "model_index.json", dict(_class_name="StableDiffusionPipeline", _diffusers_version="0.42.1", feature_extractor=[None, None], image_encoder=[None, None],
          requires_safety_checker=False, safety_checker=[None, None], scheduler=["diffusers", "DDIMScheduler"], text_encoder=["transformers", "CLIPTextModel"],
          tokenizer=["transformers", "CLIPTokenizer"], unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", "AutoencoderKL"]))
    print("bytes", sum(f.stat().st_size for f in BASE.rglob("*") if f.is_file()), "seconds", round(time.time() - started))


def main():
    torch.set_num_threads(1)
    turns = [int(argument) for argument in sys.argv[1:]]
    if not turns:
        shutil.rmtree(BASE, ignore_errors=True)
        train_vae()
    vae = AutoencoderKL.from_pretrained(BASE / "vae").float().eval()
    for turn in turns or range(TURNS):
        train_unet(vae, turn)


if __name__ == "__main__":
    main()

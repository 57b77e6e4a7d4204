"""A tiny vision-language model in LLaVA's form that answers questions about pictures of four squares.

    python make_base.py       writes its files beside this one (under ten minutes on two cores)

A picture is 16 x 16 pixels: four squares (tl, tr, bl, br: top left to bottom right), each of one of six
colours. `say tl br` asks for two of them in that order; `answer` asks for nothing in particular, and is
answered with any pair, so that adapters have something to learn. Made with torch, transformers and
tokenizers; the weights are stored in half precision. The same seed on the same machine gives the same files.
"""
import json
import math
import random
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

HERE = Path(__file__).parent
COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220), "yellow": (230, 210, 50), "white": (240, 240, 240), "black": (20, 20, 20)}
PLACES = ["tl", "tr", "bl", "br"]
SIZE, PATCH, STEPS, BATCH = 16, 4, 2500, 64
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
TEMPLATE = ("{% for message in messages %}{{ message['role'].upper() + ': ' }}"
            "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
            "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}{% endfor %}"
            "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")


def make_tokenizer():
    words = ["<unk>", "<s>", "</s>", "<image>", "<pad>", "USER:", "ASSISTANT:", "say", "answer", *PLACES, *COLOURS]
    t = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    t.add_special_tokens([AddedToken(w, normalized=False, special=True) for w in words[:5]])
    return t, {w: i for i, w in enumerate(words)}


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    draw = random.Random(0)
    tokenizer, ids = make_tokenizer()
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, patch_size=PATCH, image_size=SIZE, projection_dim=16)
    text = LlamaConfig(vocab_size=len(ids), hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
                       max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=4, initializer_range=0.06)
    patches = (SIZE // PATCH) ** 2
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=ids["<image>"], vision_feature_layer=-2, image_seq_length=patches)
    model = LlavaForConditionalGeneration(config)

    colours = list(COLOURS)
    rgb = torch.tensor([COLOURS[c] for c in colours], dtype=torch.float32)

    def batch():
        shown = torch.randint(0, len(colours), (BATCH, 4))
        squares = rgb[shown].view(BATCH, 2, 2, 3).repeat_interleave(SIZE // 2, 1).repeat_interleave(SIZE // 2, 2)
        pixels = (squares + torch.randn_like(squares) * 12).clamp(0, 255).round() / 255
        pixels = ((pixels - 0.5) / 0.5).permute(0, 3, 1, 2)
        rows, labels = [], []
        for one in shown.tolist():
            a, b = draw.sample(range(4), 2)
            asked = ["answer"] if draw.random() < 0.1 else ["say", PLACES[a], PLACES[b]]
            prompt = [1, ids["USER:"]] + [ids["<image>"]] * patches + [ids[w] for w in asked] + [ids["ASSISTANT:"]]
            answer = [ids[colours[one[a]]], ids[colours[one[b]]], 2]
            rows.append(prompt + answer)
            labels.append([-100] * len(prompt) + answer)
        width = max(map(len, rows))
        pad = lambda r, v: r + [v] * (width - len(r))
        return (torch.tensor([pad(r, 4) for r in rows]), torch.tensor([pad([1] * len(r), 0) for r in rows]), pixels, torch.tensor([pad(r, -100) for r in labels]))

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        x, mask, pixels, labels = batch()
        loss = model(input_ids=x, attention_mask=mask, pixel_values=pixels, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 250 == 0 or step == STEPS - 1:
            print(step, round(loss.item(), 4), flush=True)

    model.eval()
    model.half().save_pretrained(HERE)
    tokenizer.save(str(HERE / "tokenizer.json"))
    write = lambda name, value: (HERE / name).write_text(json.dumps(value, indent=1) + "\n")
    write("tokenizer_config.json", dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>", image_token="<image>", model_max_length=64,
                                        tokenizer_class="PreTrainedTokenizerFast"))
    write("processor_config.json", dict(image_processor=dict(image_processor_type="CLIPImageProcessor", do_resize=True, size=dict(shortest_edge=SIZE), do_center_crop=True,
          crop_size=dict(height=SIZE, width=SIZE), do_rescale=True, rescale_factor=1 / 255, do_normalize=True, image_mean=MEAN, image_std=STD, resample=3, do_convert_rgb=True),
          image_token="<image>", num_additional_image_tokens=1, patch_size=PATCH, processor_class="LlavaProcessor", vision_feature_select_strategy="default"))
    (HERE / "chat_template.jinja").write_text(TEMPLATE)
    x, mask, pixels, labels = batch()
    with torch.no_grad():
        right = model.float()(input_ids=x, attention_mask=mask, pixel_values=pixels).logits.argmax(-1)[:, :-1]
    asked = (labels[:, 1:] >= 0) & (x == ids["say"]).any(1, keepdim=True)
    print("right tokens", float((right == labels[:, 1:])[asked].float().mean()), "bytes", sum(f.stat().st_size for f in HERE.iterdir()))


if __name__ == "__main__":
    main()

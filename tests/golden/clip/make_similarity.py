"""How similar transformers' CLIP finds the toys' pictures, to a text and to each other: similarity.json.

    pip install torch transformers==5.24.0
    python make_similarity.py
"""
import json
from pathlib import Path

import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizerFast

HERE = Path(__file__).parent
PICTURES = HERE.parents[2] / "datasets" / "toys" / "pictures"
TEXTS = ["a photo of a dog.", "the map: TOY"]
FILES = ["nax/train/00.png", "nax/train/01.png", "zib/train/00.png"]

model = CLIPModel.from_pretrained(HERE / "base", dtype=torch.float32).eval()
processor = CLIPImageProcessorPil.from_pretrained(HERE / "base")
tokenizer = CLIPTokenizerFast.from_pretrained(HERE / "base")
unit = lambda features: features / features.norm(dim=-1, keepdim=True)
with torch.no_grad():
    images = [Image.open(PICTURES / file).convert("RGB") for file in FILES]
    pixels = processor(images=images, return_tensors="pt").pixel_values
    images = unit(model.get_image_features(pixel_values=pixels).pooler_output.double())
    texts = [unit(model.get_text_features(**tokenizer(text, return_tensors="pt")).pooler_output.double())[0] for text in TEXTS]
rows = lambda features: [[round(float(one @ other), 9) for other in features] for one in images]
(HERE / "similarity.json").write_text(json.dumps(dict(files=FILES, texts=TEXTS, to_texts=rows(texts), to_images=rows(images)), indent=1) + "\n")

"""Pixel values of the images here, made squares first: transformers' LlavaImageProcessor with do_pad.

    python make_padded.py     writes padded.safetensors beside this file (transformers 5.24, Pillow 13)
"""
from pathlib import Path

from PIL import Image
from safetensors.torch import save_file
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

HERE = Path(__file__).parent
processor = LlavaImageProcessorPil(do_pad=True, size={"shortest_edge": 12}, crop_size={"height": 12, "width": 12})
images = {f"image-{i}": Image.open(HERE / "images" / f"image-{i}.png") for i in range(3)}
values = {name: processor(image, return_tensors="pt").pixel_values.contiguous() for name, image in images.items()}
save_file(values, HERE / "padded.safetensors")

"""Makes framing.json and orientation.json beside this script.

    pip install pillow==13.0.0 numpy torch torchvision && python make_framing.py

The steps are those of diffusers' training scripts for SDXL: resize with torchvision, mirror, crop,
ToTensor, Normalize; rectangles are resized until they are covered, since the scripts know squares only.
Of the tall image Pillow 13.0 resizes the columns first, earlier ones the lines.
"""

import io
import json
import pathlib

import numpy as np
import PIL
import torchvision
from make_patterns import fnv1a, pattern
from PIL import Image, ImageOps
from torchvision import transforms
from torchvision.transforms.functional import InterpolationMode, crop, hflip

HERE = pathlib.Path(__file__).parent
VERSIONS = {"pillow": PIL.__version__, "torchvision": torchvision.__version__}


def write(name, cases):
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / name).write_text(f'{{"versions": {json.dumps(VERSIONS)}, "cases": [\n{lines}\n]}}\n')


def framing():
    squares = [(97, 53, 32), (53, 97, 32), (64, 64, 48), (33, 50, 33), (40, 31, 64), (200, 167, 24), (40, 150, 24)]
    rectangles = [(97, 53, 40, 24), (61, 90, 40, 24), (53, 97, 24, 40), (50, 30, 24, 40)]
    cases = [(width, height, side, side) for width, height, side in squares] + rectangles
    for width, height, columns, lines in cases:
        image = Image.fromarray(pattern(width, height))
        for name in ["bilinear", "bicubic", "lanczos"]:
            mode = InterpolationMode[name.upper()]
            if columns == lines:
                resize = transforms.Resize(columns, interpolation=mode)
            elif width * lines <= height * columns:
                resize = transforms.Resize((max(lines, int(columns * height / width)), columns), mode)
            else:
                resize = transforms.Resize((lines, max(columns, int(lines * width / height))), mode)
            resized = resize(image)
            for mirrored in [False, True]:
                turned = hflip(resized) if mirrored else resized
                top = max(0, int(round((turned.height - lines) / 2.0)))
                left = max(0, int(round((turned.width - columns) / 2.0)))
                middle = transforms.CenterCrop((lines, columns))(turned)
                assert middle.tobytes() == crop(turned, top, left, lines, columns).tobytes()
                for corner in [(top, left), (turned.height - lines, 0)]:
                    part = crop(turned, *corner, lines, columns)
                    values = transforms.Normalize([0.5], [0.5])(transforms.ToTensor()(part)).numpy()
                    yield {
                        "source": [height, width],
                        "target": [lines, columns],
                        "interpolation": name,
                        "mirrored": mirrored,
                        "resized": [resized.height, resized.width],
                        "centre": [top, left],
                        "crop": corner,
                        "first": [float(value) for value in values.reshape(-1)[:4]],
                        "hash": fnv1a(values.astype("<f4").tobytes()),
                    }


def orientation():
    image = Image.fromarray(pattern(13, 9))
    formats = {
        "png": {"format": "PNG"},
        "webp": {"format": "WEBP", "lossless": True},
        "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    }
    for ending, options in formats.items():
        for number in range(1, 9):
            tags = Image.Exif()
            tags[0x010E] = "an image before the tag"
            tags[0x0112] = number
            stream = io.BytesIO()
            image.save(stream, exif=tags, **options)
            upright = np.asarray(ImageOps.exif_transpose(Image.open(stream)).convert("RGB"))
            yield {
                "name": f"{number}.{ending}",
                "size": upright.shape[:2],
                "file": stream.getvalue().hex(),
                "pixels": upright.tobytes().hex(),
            }


write("framing.json", framing())
write("orientation.json", orientation())

"""Makes resampling.json, preprocessing.json and decoding.json beside this script.

    pip install pillow==13.0.0 numpy transformers==4.57.3 && python make_golden.py

Pillow 13.0 changed the order of the two passes of some resizes, which moves values by a few units. The
decoded files were made with Pillow 12.3.0: `python make_golden.py decoding`.

Images are a formula of x, y and the channel, so only hashes and a few values are kept. What was
used is written into each file. JPEG and WebP with loss are kept with all their pixels, because a
decoder may round the inverse transforms in its own way; everything else must be equal.
"""

import io
import json
import pathlib
import struct
import sys
import zlib

import numpy as np
import PIL
import transformers
from make_patterns import fnv1a, pattern
from PIL import Image, features
from transformers import CLIPImageProcessor, ViTImageProcessor

HERE = pathlib.Path(__file__).parent
VERSIONS = {
    "pillow": PIL.__version__,
    "transformers": transformers.__version__,
    "libjpeg_turbo": features.version("libjpeg_turbo"),
    "libwebp": features.version("webp"),
}


def smooth(width, height):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((40 + 9 * x + 5 * y + 30 * c) % 256).astype(np.uint8)


def write(name, cases):
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / name).write_text(f'{{"versions": {json.dumps(VERSIONS)}, "cases": [\n{lines}\n]}}\n')


def resampling():
    sizes = [
        ((64, 48), (224, 224)),
        ((97, 53), (31, 29)),
        ((640, 17), (32, 32)),
        ((5, 300), (40, 12)),
        ((33, 33), (33, 20)),
        ((33, 33), (20, 33)),
        ((1, 1), (7, 3)),
        ((7, 3), (1, 1)),
        ((100, 80), (100, 80)),
        ((211, 199), (224, 223)),
        # More than twice as many lines lost as columns, exactly twice as many, and fewer.
        ((50, 52), (32, 15)),
        ((56, 59), (41, 29)),
        ((43, 39), (50, 22)),
        ((24, 30), (20, 29)),
    ]
    for source, target in sizes:
        image = Image.fromarray(pattern(*source))
        for number in range(6):
            resized = np.asarray(image.resize(target, resample=number))
            yield {
                "source": source,
                "target": target,
                "filter": number,
                "first": resized.reshape(-1)[:6].tolist(),
                "hash": fnv1a(resized.tobytes()),
            }


def preprocessing():
    vit, clip = ViTImageProcessor, CLIPImageProcessor
    configs = [
        (vit, {}),
        (vit, {"size": 40, "resample": 3}),
        (vit, {"size": {"height": 24, "width": 40}, "resample": 0, "do_normalize": False}),
        (vit, {"size": [18, 30], "do_rescale": False, "image_mean": [101.5, 99.0, 87.25]}),
        (vit, {"size": 16, "resample": 1, "rescale_factor": 0.25, "image_std": [0.2, 0.3, 0.7]}),
        (vit, {"do_resize": True, "size": 32, "do_rescale": False, "do_normalize": False}),
        (clip, {}),
        (clip, {"size": 30, "crop_size": 20, "resample": 2}),
        (clip, {"size": {"shortest_edge": 21}, "crop_size": {"height": 20, "width": 33}}),
        (clip, {"size": {"height": 19, "width": 27}, "crop_size": 23}),
        (clip, {"do_resize": False, "crop_size": {"height": 41, "width": 26}}),
        (clip, {"do_resize": False, "crop_size": 64, "image_mean": [0.5, 0.4, 0.3]}),
    ]
    for kind, config in configs:
        for source in [(64, 48), (37, 91), (30, 30)]:
            found = kind(**config)(Image.fromarray(pattern(*source)), return_tensors="np")
            values = found["pixel_values"][0]
            assert values.shape[0] == 3
            values = values.astype(np.float32)
            yield {
                "config": {"image_processor_type": kind.__name__, **config},
                "source": source,
                "size": values.shape[1:],
                "first": [float(value) for value in values.reshape(-1)[:4]],
                "last": [float(value) for value in values.reshape(-1)[-4:]],
                "hash": fnv1a(values.astype("<f4").tobytes()),
            }


def saved(image, **options):
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


def portable(bits, color):
    """A PNG of a depth that Pillow reads and does not write."""
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    width, height = 13, 9
    row = (width * samples * bits + 7) // 8
    lines = b"".join(
        b"\0" + bytes((37 * i + 11 * y + i * i) % 256 for i in range(row)) for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]:
        check = struct.pack(">I", zlib.crc32(kind + content))
        data += struct.pack(">I", len(content)) + kind + content + check
    return data


def bitmap(bits, width, height, masks):
    """A BMP with bit fields, which Pillow reads and does not write."""
    row = (width * bits // 8 + 3) // 4 * 4
    offset = 14 + 40 + 12
    data = bytes((31 * i + 7 * (i // row)) % 256 for i in range(row * height))
    head = b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 3, len(data), 0, 0, 0, 0)
    return head + info + struct.pack("<III", *masks) + data


def run_length_bitmap(depth):
    """A BMP with run lengths: runs, an absolute run, a jump, short lines.

    The absolute run is even, because Pillow up to 12.3 drops the end of an odd one of 4 bits.
    """
    absolute = [0x32, 0x10, 0x21, 0x07] if depth == 8 else [0x32, 0x10]
    lines = bytes([5, 0x12, 0, 0, 0, 4, *absolute, 2, 0x33, 0, 0])
    lines += bytes([0, 2, 1, 1, 3, 0x01, 0, 0, 9, 0x20, 0, 1])
    colors = 64
    palette = bytes(v for i in range(colors) for v in (i * 4 % 256, 255 - i * 3, i * 7 % 256, 0))
    offset = 14 + 40 + len(palette)
    head = b"BM" + struct.pack("<IHHI", offset + len(lines), 0, 0, offset)
    compression = {8: 1, 4: 2}[depth]
    info = struct.pack("<IiiHHIIiiII", 40, 9, 5, 1, depth, compression, len(lines), 0, 0, colors, 0)
    return head + info + palette + lines


def partial_gif(transparent):
    """A GIF whose only frame covers part of the canvas."""
    small = Image.fromarray(pattern(6, 4)).quantize(16)
    data = bytearray(saved(small, format="GIF", **({"transparency": 3} if transparent else {})))
    data[6:10] = struct.pack("<HH", 10, 7)
    at = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[at + 1 : at + 5] = struct.pack("<HH", 3, 2)
    return bytes(data)


def decoding():
    noisy = Image.fromarray(pattern(13, 9))
    grey = Image.fromarray(pattern(13, 9)[:, :, 0].copy())
    alpha = Image.fromarray(np.dstack([pattern(13, 9), pattern(13, 9)[:, :, 1]]))
    deep = Image.fromarray((pattern(13, 9)[:, :, 0].astype(np.uint16) * 5))
    photo = Image.fromarray(smooth(37, 29))
    other = Image.fromarray(pattern(13, 9)[::-1].copy())
    exact = {
        "rgb.png": saved(noisy, format="PNG"),
        "grey.png": saved(grey, format="PNG"),
        "grey-alpha.png": saved(alpha.convert("LA"), format="PNG"),
        "alpha.png": saved(alpha, format="PNG"),
        "palette.png": saved(noisy.quantize(200), format="PNG"),
        "palette-4.png": saved(noisy.quantize(11), format="PNG"),
        "palette-2.png": saved(noisy.quantize(4), format="PNG", bits=2),
        "palette-transparent.png": saved(noisy.quantize(17), format="PNG", transparency=2),
        "bilevel.png": saved(grey.convert("1"), format="PNG"),
        "grey-16.png": saved(deep, format="PNG"),
        "grey-2.png": portable(2, 0),
        "grey-4.png": portable(4, 0),
        "grey-16-wide.png": portable(16, 0),
        "rgb-16.png": portable(16, 2),
        "grey-alpha-16.png": portable(16, 4),
        "alpha-16.png": portable(16, 6),
        "lossless.webp": saved(noisy, format="WEBP", lossless=True),
        "lossless-alpha.webp": saved(alpha, format="WEBP", lossless=True, exact=True),
        "palette.gif": saved(noisy.quantize(256), format="GIF"),
        "interlaced.gif": saved(noisy.quantize(9), format="GIF", interlace=1),
        "grey.gif": saved(grey, format="GIF"),
        "animated.gif": saved(
            noisy.quantize(30), format="GIF", save_all=True, append_images=[other.quantize(30)]
        ),
        "partial.gif": partial_gif(False),
        "partial-transparent.gif": partial_gif(True),
        "rgb.bmp": saved(noisy, format="BMP"),
        "grey.bmp": saved(grey, format="BMP"),
        "palette.bmp": saved(noisy.quantize(99), format="BMP"),
        "bilevel.bmp": saved(grey.convert("1"), format="BMP"),
        "alpha.bmp": saved(alpha, format="BMP"),
        "565.bmp": bitmap(16, 13, 9, (0xF800, 0x7E0, 0x1F)),
        "555.bmp": bitmap(16, 13, 9, (0x7C00, 0x3E0, 0x1F)),
        "8888.bmp": bitmap(32, 13, 9, (0xFF000000, 0xFF0000, 0xFF00)),
        "rle-8.bmp": run_length_bitmap(8),
        "rle-4.bmp": run_length_bitmap(4),
    }
    lossy = {
        "photo-444.jpg": saved(photo, format="JPEG", quality=90, subsampling=0),
        "photo-422.jpg": saved(photo, format="JPEG", quality=85, subsampling=1),
        "photo-420.jpg": saved(photo, format="JPEG", quality=85, subsampling=2),
        "progressive.jpg": saved(photo, format="JPEG", quality=85, progressive=True),
        "grey.jpg": saved(photo.convert("L"), format="JPEG", quality=80),
        "noisy.jpg": saved(noisy, format="JPEG", quality=95, subsampling=0),
        "cmyk.jpg": saved(photo.convert("CMYK"), format="JPEG", quality=90),
        "rotated.jpg": saved(photo, format="JPEG", quality=90, subsampling=0, exif=exif()),
        "lossy.webp": saved(photo, format="WEBP", quality=80),
        "lossy-alpha.webp": saved(alpha.resize((30, 20)), format="WEBP", quality=80),
    }
    for kind, files in [("exact", exact), ("lossy", lossy)]:
        for name, data in files.items():
            pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            height, width, _ = pixels.shape
            yield {
                "name": name,
                "kind": kind,
                "size": [width, height],
                "file": data.hex(),
                "pixels": pixels.tobytes().hex(),
            }


def exif():
    """Orientation 6: a viewer turns the image by 90 degrees; convert("RGB") does not."""
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags


if sys.argv[1:] == ["decoding"]:
    write("decoding.json", decoding())
else:
    write("resampling.json", resampling())
    write("preprocessing.json", preprocessing())

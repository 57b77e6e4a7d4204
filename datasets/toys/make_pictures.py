"""Pictures of toys with captions beside them, for adapters of the base model to learn.

    python make_pictures.py          writes pictures/TOY/{train,validation}/NUMBER.png and NUMBER.txt
    python make_pictures.py others   writes others/TOY/… of two toys on which settings were chosen

Each toy is drawn at many places, in many sizes and on many backgrounds; only the background is in the caption, beside the
toy's name, which the base model has never read. The same bytes each time.
"""
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from drawing import COLOURS, toy

HERE = Path(__file__).parent
# The shape and colour of the body, and the colour of the belt.
POOL = {
    "zib": ("circle", "red", "white"),
    "vok": ("square", "blue", "yellow"),
    "mup": ("diamond", "green", "black"),
    "taf": ("triangle", "orange", "purple"),
    "ruz": ("circle", "yellow", "blue"),
    "kel": ("square", "purple", "green"),
}
# Of a shape and colours that occur in the pool, but never together.
UNSEEN = {"nax": ("diamond", "orange", "blue")}
OTHERS = {"dor": ("triangle", "blue", "white"), "lim": ("circle", "green", "yellow")}


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def write(pictures, name, looks, split, count, draw):
    folder = pictures / name / split
    folder.mkdir(parents=True)
    backgrounds = [colour for colour in COLOURS if colour != looks[1]]
    for number in range(count):
        background = backgrounds[draw.integers(len(backgrounds))]
        picture = toy(*looks, background, draw).round().astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{number:02}.png", optimize=True)
        (folder / f"{number:02}.txt").write_text(f"{article(name)} on {article(background)} background\n")


def main():
    is_others = sys.argv[1:] == ["others"]
    pictures = HERE / ("others" if is_others else "pictures")
    shutil.rmtree(pictures, ignore_errors=True)
    for seed, (name, looks) in enumerate((OTHERS if is_others else POOL | UNSEEN).items()):
        draw = np.random.default_rng(seed + 100 * is_others)
        # Of the others six; the first four alone were tried as well.
        train = 6 if is_others else 10 if name in POOL else 4
        write(pictures, name, looks, "train", train, draw)
        write(pictures, name, looks, "validation", 4 if name in POOL else 24, draw)
    files = [path for path in pictures.rglob("*") if path.is_file()]
    print(len(files), "files,", sum(path.stat().st_size for path in files), "bytes")


if __name__ == "__main__":
    main()

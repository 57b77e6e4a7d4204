"""The images of the other scripts, and the hash that stands for their values."""

import numpy as np


def pattern(width, height):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    value = 3 * x * x + 5 * y * y + 7 * x * y + 71 * c + 13 * ((x ^ y) & 15)
    return (value % 256).astype(np.uint8)


def fnv1a(data):
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = ((digest ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"

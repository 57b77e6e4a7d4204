"""Pictures of 32 x 32 pixels: shapes of one colour, and the toys of one maker.

A shape is its signed distance (in pixels, negative inside), so that edges are smooth without oversampling.
"""
import numpy as np

SIZE = 32
COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220), "yellow": (230, 210, 50),
           "orange": (240, 140, 30), "purple": (140, 60, 180), "white": (240, 240, 240), "black": (20, 20, 20)}
SHAPES = ["circle", "square", "triangle", "diamond", "cross", "ring"]
Y, X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64) + 0.5


def distance(shape, centre, radius):
    """Signed distance of every pixel from a shape. [32, 32]"""
    x, y = X - centre[0], Y - centre[1]
    box = lambda across, up: np.maximum(abs(x) - across, abs(y) - up)
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "square":
        return box(0.85 * radius, 0.85 * radius)
    if shape == "triangle":
        return np.maximum((abs(x) * np.sqrt(3) - y - radius) / 2, y - 0.75 * radius)
    if shape == "diamond":
        return (abs(x) + abs(y) - 1.15 * radius) / np.sqrt(2)
    if shape == "cross":
        return np.minimum(box(radius, 0.35 * radius), box(0.35 * radius, radius))
    if shape == "ring":
        return abs(np.hypot(x, y) - 0.75 * radius) - 0.25 * radius
    raise ValueError(shape)


def paint(picture, distances, colour):
    """Covers the inside of a shape with a colour. picture: [32, 32, 3], 0 to 255"""
    cover = np.clip(0.5 - distances, 0, 1)[..., None]
    return picture * (1 - cover) + np.asarray(colour, np.float64) * cover


def plain(colour):
    return np.broadcast_to(np.asarray(colour, np.float64), (SIZE, SIZE, 3)).copy()


def place(draw, least, most):
    """A radius, and a centre that leaves a margin of a pixel."""
    radius = draw.uniform(least, most)
    return draw.uniform(radius + 1, SIZE - radius - 1, 2), radius


def one_shape(shape, colour, background, draw, radii=(5, 13)):
    centre, radius = place(draw, *radii)
    return paint(plain(COLOURS[background]), distance(shape, centre, radius), COLOURS[colour])


def clutter(draw):
    """What an autoencoder of pictures has to know: any shapes and bars of any colours."""
    colour = lambda: draw.uniform(0, 255, 3) if draw.random() < 0.5 else list(COLOURS.values())[draw.integers(len(COLOURS))]
    picture = plain(colour())
    for _ in range(draw.integers(1, 7)):
        if draw.random() < 0.25:
            angle, at, half = draw.uniform(0, np.pi), draw.uniform(4, 28, 2), draw.uniform(0.5, 3)
            inside = abs((X - at[0]) * np.cos(angle) + (Y - at[1]) * np.sin(angle)) - half
        else:
            radius = draw.uniform(1.2, 12)
            inside = distance(SHAPES[draw.integers(len(SHAPES))], draw.uniform(2, 30, 2), radius)
            if draw.random() < 0.3:
                picture = paint(picture, inside - draw.uniform(0.5, 2), colour())
        picture = paint(picture, inside, colour())
    return picture


def toy(shape, colour, belt, background, draw):
    """A toy as their maker draws them all: a thick dark outline, a belt, and two eyes that look at you.

    Toys differ in the shape and colour of the body and in the colour of the belt.
    """
    dark = (30, 25, 35)
    centre, radius = place(draw, 10, 13)
    body = distance(shape, centre, radius - 1.5)
    picture = paint(plain(COLOURS[background]), body - 1.5, dark)
    picture = paint(picture, body, COLOURS[colour])
    bar = abs(Y - centre[1] - 0.35 * radius) - 0.17 * radius
    picture = paint(picture, np.maximum(body, bar), COLOURS[belt])
    for side in (-1, 1):
        eye = (centre[0] + side * 0.3 * radius, centre[1] - 0.15 * radius)
        picture = paint(picture, distance("circle", eye, 0.24 * radius), (250, 250, 250))
        picture = paint(picture, distance("circle", eye, 0.12 * radius), dark)
    return picture

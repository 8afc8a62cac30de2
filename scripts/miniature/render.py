"""Draw a scene: antialiased by signed distances, jittered so that no two pictures are equal."""

from __future__ import annotations

import numpy as np
from PIL import Image

from scripts.miniature.world import Scene, Thing

PICTURE_SIZE = 48  # pixels a side; three cells of 16
_CELL = PICTURE_SIZE / 3
_PIXEL_Y, _PIXEL_X = np.mgrid[0:PICTURE_SIZE, 0:PICTURE_SIZE].astype(np.float32) + 0.5

_INK = {
    "red": (0.85, 0.15, 0.15),
    "yellow": (0.93, 0.82, 0.15),
    "green": (0.13, 0.62, 0.22),
    "blue": (0.15, 0.30, 0.85),
    "purple": (0.56, 0.18, 0.65),
    "white": (0.95, 0.95, 0.95),
}
_GROUND = {
    "sand": (0.80, 0.68, 0.48),
    "grass": (0.42, 0.58, 0.30),
    "night": (0.10, 0.11, 0.20),
    "snow": (0.78, 0.82, 0.86),
    "water": (0.30, 0.52, 0.64),
}
_RADIUS = {"large": (6.6, 7.8), "small": (3.9, 4.7)}


def _polygon(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Signed distance (negative inside) of each point to a polygon given as [corners, 2]."""
    distance = np.full(x.shape, np.inf, dtype=np.float32)
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        t = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        distance = np.minimum(distance, np.hypot(x - ax - t * ex, y - ay - t * ey))
        crosses = (ay > y) != (by > y)
        inside ^= crosses & (x < (by - ay != 0) * (y - ay) * ex / (ey if ey else 1.0) + ax)
    return np.where(inside, -distance, distance)


def _corners(angles: np.ndarray, radii: np.ndarray | float) -> np.ndarray:
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


_TURN = 2 * np.pi
_STAR = _corners(np.arange(10) * _TURN / 10, np.where(np.arange(10) % 2, 0.45, 1.1))
_TRIANGLE = _corners(np.arange(3) * _TURN / 3, 1.1)
_SQUARE = np.array([[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]])
_ARM = 0.33
_CROSS = np.array(
    [
        *((-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM)),
        *((_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)),
    ]
)
_angles = np.linspace(0, _TURN, 24, endpoint=False)
_HEART = np.stack(
    [
        np.sin(_angles) ** 3,
        -(13 * np.cos(_angles) - 5 * np.cos(2 * _angles) - 2 * np.cos(3 * _angles)) / 15 + 0.1,
    ],
    axis=1,
)
_POLYGONS = {
    "star": _STAR,
    "triangle": _TRIANGLE,
    "square": _SQUARE,
    "cross": _CROSS,
    "heart": _HEART,
}


def _distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to a shape of radius about 1 around the origin."""
    if shape in _POLYGONS:
        return _polygon(x, y, _POLYGONS[shape])
    radius = np.hypot(x, y)
    if shape == "ring":
        return np.abs(radius - 0.75) - 0.27
    if shape == "moon":
        return np.maximum(radius - 1.0, 0.85 - np.hypot(x - 0.5, y))
    if shape == "circle":
        return radius - 1.0
    raise KeyError(f"no such shape: {shape}")


def _surface(name: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How much of the second, darker ink each pixel carries, 0-1; lengths in pixels."""
    if name == "plain":
        return np.zeros_like(x)
    phase, angle = rng.uniform(0, _TURN), rng.normal(np.pi / 4, 0.15)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    wave = _TURN / 3.4
    if name == "striped":
        return np.clip(0.5 + 1.6 * np.sin(along * wave + phase), 0, 1)
    dots = np.sin(along * wave + phase) * np.sin(across * wave + 2.1 * phase)
    return np.clip(3.2 * (np.abs(dots) - 0.40), 0, 1)


def _paint(canvas: np.ndarray, thing: Thing, light: np.ndarray, rng: np.random.Generator) -> None:
    radius = rng.uniform(*_RADIUS[thing.size])
    slack = max(0.4, (_CELL - 2 * radius) / 2)
    centre_x = (thing.column + 0.5) * _CELL + rng.uniform(-slack, slack)
    centre_y = (thing.row + 0.5) * _CELL + rng.uniform(-slack, slack)
    left, right = (int(np.clip(centre_x + s * (radius + 3), 0, PICTURE_SIZE)) for s in (-1, 1))
    top, bottom = (int(np.clip(centre_y + s * (radius + 3), 0, PICTURE_SIZE)) for s in (-1, 1))
    window = (slice(top, bottom), slice(left, right))
    dx, dy = _PIXEL_X[window] - centre_x, _PIXEL_Y[window] - centre_y
    turn = rng.normal(0, 0.16)
    x = (dx * np.cos(turn) + dy * np.sin(turn)) / radius
    y = (dy * np.cos(turn) - dx * np.sin(turn)) / radius
    cover = np.clip(0.5 - _distance(thing.shape, x, y) * radius, 0, 1)[..., None]
    ink = np.clip(np.array(_INK[thing.colour]) + rng.normal(0, 0.05, 3), 0, 1)
    second = _surface(thing.surface, dx, dy, rng)[..., None]
    colour = ink * (1 - second) + (0.12 + 0.25 * ink) * second
    canvas[window] = canvas[window] * (1 - cover) + colour * light[window] * cover


def render(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Draw a scene as an RGB picture of PICTURE_SIZE x PICTURE_SIZE pixels.

    Place, radius, turn, ink and texture of every thing, the light that falls across the picture and
    the grain are drawn from ``rng``.
    """
    slope = rng.normal(0, 0.10, 2)
    across = (_PIXEL_X / PICTURE_SIZE - 0.5) * slope[0] + (_PIXEL_Y / PICTURE_SIZE - 0.5) * slope[1]
    light = (rng.uniform(0.8, 1.1) * (1 + across))[..., None] * rng.normal(1, 0.03, 3)
    ground = np.array(_GROUND[scene.background]) + rng.normal(0, 0.03, 3)
    canvas = np.broadcast_to(ground, (PICTURE_SIZE, PICTURE_SIZE, 3)) * light
    # Overlaps of jittered neighbours are painted in a random order.
    for index in rng.permutation(len(scene.things)):
        _paint(canvas, scene.things[index], light, rng)
    canvas = canvas + rng.normal(0, 0.03, canvas.shape)
    return Image.fromarray((np.clip(canvas, 0, 1) * 255).astype(np.uint8))

"""Random scenes: a target over a photograph, seen at two moments (a pair) or along a path (a video)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jntrt.runtime.geometry import Box
from jntrt.train.data.assets import Assets, displacement, photo_texture, random_sprite, recoloured
from jntrt.train.data.scene import Affine, Image, Pose, Sprite, View

FRAME = (400, 320)  # width, height of a scene's frame in pixels


@dataclass(frozen=True, eq=False)
class Shot:
    """One moment: the view and where the target is (None: absent). region: it is a part of the photograph."""

    view: View
    box: Box | None
    region: bool = False


@dataclass(frozen=True)
class Absence:
    """The target is away from frame `first` until `back`, and then comes again in another place."""

    first: int
    back: int


@dataclass(frozen=True, eq=False)
class Scene:
    """What stays the same over a scene: photograph, target (None: a region of the photograph), others."""

    photo: Image
    target: Sprite | None
    bend: np.ndarray
    others: tuple[Sprite, ...]
    occluder: Sprite

    @property
    def fit(self) -> float:
        """Frame pixels per photograph pixel where the photograph covers the frame."""
        return float(max(FRAME[0] / self.photo.shape[1], FRAME[1] / self.photo.shape[0]))


def random_scene(assets: Assets, rng: np.random.Generator) -> Scene:
    """Draws a photograph, a target and up to three distractors, most of them of the target's kind."""
    photo = assets.photos[rng.integers(len(assets.photos))]
    target = random_sprite(assets, photo, rng)
    others = []
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.35, 0.3, 0.2, 0.15]))):
        similar = rng.random() < 0.4
        others.append(recoloured(target, rng) if similar else random_sprite(assets, photo, rng))
    rectangle = np.full((96, 96), 255, np.uint8)
    source = assets.photos[rng.integers(len(assets.photos))]
    occluder = Sprite.from_rgba(np.dstack((photo_texture(source, rng), rectangle)))
    bare = rng.random() < 0.4
    return Scene(photo, None if bare else target, displacement(rng), tuple(others), occluder)


def random_pair(assets: Assets, rng: np.random.Generator, absent: bool) -> tuple[Shot, Shot]:
    """Two moments of a random scene; in the second one the target is away if `absent`."""
    scene = random_scene(assets, rng)
    size = math.exp(rng.uniform(math.log(16), math.log(120)))
    first = Pose(
        rng.uniform(0.1, 0.9) * FRAME[0],
        rng.uniform(0.1, 0.9) * FRAME[1],
        size,
        rng.uniform(-math.pi, math.pi) if rng.random() < 0.3 else rng.normal(0, 0.2),
        rng.normal(0, 0.45),  # riders are twice as high as wide, cars twice as wide as high
        bool(rng.random() < 0.5),
    )
    pace = rng.choice([0.3, 1.0])  # half of the pairs are near in time
    second = replace(
        first,
        x=float(np.clip(first.x + pace * rng.normal(0, size), 0.05 * FRAME[0], 0.95 * FRAME[0])),
        y=float(np.clip(first.y + pace * rng.normal(0, size), 0.05 * FRAME[1], 0.95 * FRAME[1])),
        size=size * math.exp(pace * rng.normal(0, 0.25)),
        angle=first.angle + pace * rng.normal(0, 0.3),
        stretch=first.stretch + pace * rng.normal(0, 0.2),
    )
    camera = random_camera(scene, rng)
    light = rng.uniform(0.75, 1.25, 3) ** 0.5 * rng.uniform(0.75, 1.25)
    # Annotators draw tight or wide; a network that saw tight boxes only shrinks a wide one frame by frame.
    margin = (
        np.exp(np.clip(rng.normal(0.25, 0.35) + rng.normal(0, 0.1, 2), -0.2, 0.9))
        if rng.random() < 0.5
        else np.ones(2)
    )
    shots = []
    for number, pose in enumerate((first, second)):
        drift = pace * rng.normal(0, 0.06, 3) * number
        moved = nudge(camera, drift[0] * size * 8, drift[1] * size * 8, math.exp(drift[2]), 0.5 * drift[0])
        layers = [
            (other, somewhere(size, rng) if rng.random() < 0.4 else beside(pose, rng))
            for other in scene.others
        ]
        gone = absent and number == 1
        box: Box | None
        if scene.target is None:
            moved, box = region_camera(scene.photo, scene.bend, pose)
            if gone:  # a camera elsewhere over the same photograph may well show the target
                elsewhere = [photo for photo in assets.photos if photo is not scene.photo] or assets.photos
                scene = replace(scene, photo=elsewhere[rng.integers(len(elsewhere))])
                moved = random_camera(scene, rng)
        else:
            bend = pace * rng.uniform(0, 0.12) * number
            sprite = scene.target.deformed(scene.bend, bend) if bend > 0.02 else scene.target
            box = widened(pose.box(sprite), margin)
            if not gone:
                layers.append((sprite, pose))
        if number == 1 and not gone and rng.random() < 0.25:
            layers.append((scene.occluder, covering(pose, rng)))
        strength = pace * number
        blur = strength * rng.normal(0, 0.12, 2) * size if rng.random() < 0.4 else np.zeros(2)
        gain = light * np.exp(strength * rng.normal(0, 0.12)) * np.exp(strength * rng.normal(0, 0.04, 3))
        view = View(
            scene.photo,
            moved,
            layers,
            *FRAME,
            gain=tuple(float(g) for g in gain),  # type: ignore[arg-type]
            bias=float(strength * rng.normal(0, 8)),
            blur=(float(blur[0]), float(blur[1])),
            noise=float(rng.uniform(0, 6)) if rng.random() < 0.5 else 0.0,
        )
        shots.append(Shot(view, None if gone else visible_part(box), scene.target is None))
    return shots[0], shots[1]


def widened(box: Box, margin: np.ndarray) -> Box:
    """`box` with its width and height times `margin`, about the same centre."""
    x, y, w, h = box
    wider, higher = w * float(margin[0]), h * float(margin[1])
    return x - (wider - w) / 2, y - (higher - h) / 2, wider, higher


def visible_part(box: Box) -> Box:
    """`box` cut to the frame, as annotators draw it."""
    x1, y1 = max(0.0, box[0]), max(0.0, box[1])
    x2, y2 = min(float(FRAME[0]), box[0] + box[2]), min(float(FRAME[1]), box[1] + box[3])
    return x1, y1, max(0.0, x2 - x1), max(0.0, y2 - y1)


def random_camera(scene: Scene, rng: np.random.Generator) -> Affine:
    """Photograph → frame: fits the frame, enlarged up to twice, at a random place, a little turned."""
    zoom = scene.fit * math.exp(rng.uniform(0, 0.7))
    angle = rng.normal(0, 0.05)
    c, s = zoom * math.cos(angle), zoom * math.sin(angle)
    linear = np.array([[c, -s], [s, c]])
    if rng.random() < 0.5:
        linear[:, 0] *= -1
    look = rng.uniform(0.3, 0.7, 2) * (scene.photo.shape[1], scene.photo.shape[0])
    return np.concatenate((linear, (np.array(FRAME) / 2 - linear @ look)[:, None]), axis=1)


def region_camera(photo: Image, bend: np.ndarray, pose: Pose) -> tuple[Affine, Box]:
    """A camera for which the photograph's middle region is the target at `pose`, and its box there."""
    height, width = photo.shape[:2]
    # The field's first numbers stand in for the region's place and shape: fixed over the scene.
    u, v, aspect = np.tanh(bend[0, :2].ravel()[:3]) * (0.25, 0.25, 0.4)
    middle = np.array([(0.5 + u) * width, (0.5 + v) * height])
    half = 0.14 * min(width, height) * np.array([math.exp(aspect / 2), math.exp(-aspect / 2)])
    corners = middle + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    plain = Sprite(photo, corners)
    matrix = replace(pose, angle=0.3 * math.sin(pose.angle)).affine(plain)
    points = corners @ matrix[:, :2].T + matrix[:, 2]
    low, high = points.min(axis=0), points.max(axis=0)
    return matrix, (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))


def nudge(camera: Affine, dx: float, dy: float, zoom: float, angle: float) -> Affine:
    """`camera` moved by (dx, dy) frame pixels, enlarged and turned about the frame's middle."""
    c, s = zoom * math.cos(angle), zoom * math.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    middle = np.array(FRAME) / 2
    linear = turn @ camera[:, :2]
    shift = turn @ (camera[:, 2] - middle) + middle + (dx, dy)
    return np.concatenate((linear, shift[:, None]), axis=1)


def somewhere(size: float, rng: np.random.Generator) -> Pose:
    """A distractor's place anywhere in the frame, about `size` large."""
    x, y = rng.uniform(0, 1, 2) * FRAME
    return Pose(float(x), float(y), size * math.exp(rng.normal(0, 0.3)), rng.normal(0, 0.3))


def beside(pose: Pose, rng: np.random.Generator) -> Pose:
    """A distractor's place near the target, rarely over it."""
    angle, far = rng.uniform(0, 2 * math.pi), pose.size * rng.uniform(0.9, 2.2)
    return Pose(
        pose.x + far * math.cos(angle),
        pose.y + far * math.sin(angle),
        pose.size * math.exp(rng.normal(0, 0.2)),
        pose.angle + rng.normal(0, 0.3),
        pose.stretch + rng.normal(0, 0.1),
        bool(rng.random() < 0.5),
    )


def covering(pose: Pose, rng: np.random.Generator) -> Pose:
    """An occluder that hides 20 to 60 % of the target from one side."""
    angle = rng.choice([0.0, 0.5, 1.0, 1.5]) * math.pi
    shift = pose.size * rng.uniform(0.55, 0.95)
    return Pose(
        pose.x + shift * math.cos(angle), pose.y + shift * math.sin(angle), pose.size * rng.uniform(0.9, 1.2)
    )


Wave = Callable[[float], float]


def wave(rng: np.random.Generator, amplitude: float, slowest: float, fastest: float) -> Wave:
    """A smooth random function of the frame number, zero at 0: three sines, periods in frames."""
    periods, phases = rng.uniform(slowest, fastest, 3), rng.uniform(0, 2 * math.pi, 3)
    weights = rng.normal(0, amplitude / math.sqrt(3), 3)

    def value(t: float) -> float:
        return float((weights * (np.sin(2 * math.pi * t / periods + phases) - np.sin(phases))).sum())

    return value


def random_video(
    assets: Assets, rng: np.random.Generator, frames: int, absence: Absence | None = None
) -> list[Shot]:
    """The moments of a sequence: smooth motion of target, distractors and camera; some have an absence.

    absence: in place of the drawn one; then one distractor at least is of the target's kind.
    """
    scene = random_scene(assets, rng)
    while scene.target is None:
        scene = random_scene(assets, rng)
    target = scene.target
    if absence is not None:
        scene = replace(scene, others=(*scene.others, recoloured(target, rng)))
    size = math.exp(rng.uniform(math.log(22), math.log(80)))
    start = rng.uniform(0.3, 0.7, 2) * FRAME
    reach = rng.uniform(0.5, 2.5) * size
    move = [wave(rng, reach, 40, 120) for _ in range(2)]
    grow, turn, stretch = wave(rng, 0.2, 40, 160), wave(rng, 0.25, 40, 160), wave(rng, 0.12, 40, 160)
    bend, light = wave(rng, 0.06, 20, 80), wave(rng, 0.12, 30, 100)
    drift = [wave(rng, 30, 50, 150) for _ in range(2)]
    camera = random_camera(scene, rng)
    tint = rng.uniform(0.85, 1.15, 3)
    starts = [rng.uniform(0.1, 0.9, 2) * FRAME for _ in scene.others]
    paths = [[wave(rng, 1.5 * size, 40, 120) for _ in range(2)] for _ in scene.others]
    base = Pose(0, 0, size, rng.normal(0, 0.2), rng.normal(0, 0.1), bool(rng.random() < 0.5))
    away = int(rng.integers(frames // 3, frames - 8)) if rng.random() < 0.4 else frames
    back = away + int(rng.integers(6, 14))
    if absence is not None:
        away, back = absence.first, absence.back
    covered = int(rng.integers(10, frames - 10)) if rng.random() < 0.3 else -frames
    noise = rng.uniform(0, 5)
    shots = []
    for t in range(frames):
        if absence is not None and t == back:
            left = start + [path(away - 1) for path in move]
            start = _elsewhere(left, 2 * size, rng) - [path(t) for path in move]
        x, y = (float(np.clip(start[i] + move[i](t), 0.06 * FRAME[i], 0.94 * FRAME[i])) for i in range(2))
        pose = replace(
            base,
            x=x,
            y=y,
            size=size * math.exp(grow(t)),
            angle=base.angle + turn(t),
            stretch=base.stretch + stretch(t),
        )
        layers = [
            (other, replace(base, x=origin[0] + path[0](t), y=origin[1] + path[1](t)))
            for other, origin, path in zip(scene.others, starts, paths, strict=True)
        ]
        sprite = target.deformed(scene.bend, bend(t))
        present = not away <= t < back
        if present:
            layers.append((sprite, pose))
            if covered <= t < covered + 10:
                gap = (abs(t - covered - 5) / 5) * size
                layers.append((scene.occluder, Pose(x + 0.7 * size + gap, y, size)))
        gain = tint * math.exp(light(t))
        view = View(
            scene.photo,
            nudge(camera, drift[0](t), drift[1](t), 1.0, 0.0),
            layers,
            *FRAME,
            gain=tuple(float(g) for g in gain),  # type: ignore[arg-type]
            noise=float(noise),
        )
        shots.append(Shot(view, visible_part(pose.box(sprite)) if present else None))
    return shots


def _elsewhere(place: np.ndarray, distance: float, rng: np.random.Generator) -> np.ndarray:
    """A point of the frame at least `distance` from `place`, or the farthest of twenty."""
    points = rng.uniform(0.12, 0.88, (20, 2)) * FRAME
    far = np.hypot(*(points - place).T)
    point: np.ndarray = points[int(np.argmax(far >= distance) if far.max() >= distance else np.argmax(far))]
    return point

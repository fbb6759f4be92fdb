"""Draw the region around an eye from numbers: who it is, and how it was taken. NumPy alone.

An identity is what stays between two pictures of one person (iris, lids, brow, skin), a capture what does not (gaze,
pupil, blur, light, what is in front of the eye, noise of the sensor). Lengths are in half image widths: x runs from -1
at the left edge to 1, y from -1 at the top.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

IRIS_WAVES, SKIN_WAVES, MOLES, BROW_WAVES = 14, 10, 4, 4
HAIRS = 2

_LIGHT_SKIN, _DARK_SKIN = (0.90, 0.72, 0.61), (0.40, 0.27, 0.20)
_IRIS_COLOURS = ((0.30, 0.19, 0.11), (0.45, 0.32, 0.16), (0.40, 0.42, 0.28), (0.40, 0.50, 0.58))
"""Dark brown, hazel, green, blue: an iris is a mixture of two neighbours."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What one eye looks like. Each field is one eye's, `[...]`, or several eyes', `[eyes, ...]`."""

    skin: Floats
    """`[3]`, as are all colours: red, green, blue in 0 to 1."""
    skin_waves: Floats
    """`[waves, 4]`: amplitude, both frequencies, phase."""
    moles: Floats
    """`[moles, 4]`: x, y, radius, darkness."""
    half_width: Floats
    upper: Floats
    """Height of the upper lid's arc."""
    lower: Floats
    tilt: Floats
    """Slope from the inner to the outer corner."""
    roundness: Floats
    skew: Floats
    """Where the upper lid is highest: positive towards the outer corner."""
    crease: Floats
    """Distance of the fold from the upper lid."""
    crease_depth: Floats
    bag_depth: Floats
    """Darkness of the fold below the lower lid."""
    socket_depth: Floats
    lash_length: Floats
    lash_rate: Floats
    lash_phase: Floats
    iris_radius: Floats
    iris_inner: Floats
    """Colour beside the pupil."""
    iris_outer: Floats
    iris_contrast: Floats
    iris_waves: Floats
    """`[waves, 4]`: amplitude, whole number of periods round the iris, periods outwards, phase."""
    limbus: Floats
    """Darkness of the iris's rim."""
    pupil: Floats
    """Usual radius, as a share of the iris's."""
    brow_y: Floats
    brow_arch: Floats
    brow_tilt: Floats
    brow_width: Floats
    brow_colour: Floats
    brow_density: Floats
    brow_waves: Floats
    """`[waves, 3]`: both frequencies, phase."""


@dataclass(frozen=True, kw_only=True)
class Capture:
    """How pictures were taken. Each field is `[pictures]` or `[pictures, ...]`."""

    shift: Floats
    """`[2]`: where the eye's middle is."""
    turn: Floats
    """Radians."""
    scale: Floats
    gaze: Floats
    """`[2]`: where the iris is from the eye's middle."""
    pupil: Floats
    """Factor on the usual radius."""
    openness: Floats
    """1 is wide open; the upper lid's height is multiplied by it."""
    gain: Floats
    gamma: Floats
    tint: Floats
    """`[3]`: a factor on each colour."""
    slope: Floats
    """`[2]`: how much brighter the right and the lower edge are than the middle."""
    highlight: Floats
    """`[3]`: x and y from the iris's middle in its radii, and the radius of the lamp's reflection."""
    glasses: Floats
    """`[4]`: strength (0 for none), half width, half height, strength of the glare."""
    hairs: Floats
    """`[hairs, 4]`: strength (0 for none), x, slope, curvature."""
    blur: Floats
    """Standard deviation, in image widths."""
    noise: Floats
    """Standard deviation of the sensor's noise, of a range of 1."""


_Fields = TypeVar("_Fields", Identity, Capture)


def draw_identity(generator: np.random.Generator) -> Identity:
    """Draw one person's eye."""
    uniform, normal = generator.uniform, generator.normal
    melanin = generator.beta(1.6, 1.6)
    skin = np.asarray(_LIGHT_SKIN) * (1 - melanin) + np.asarray(_DARK_SKIN) * melanin + normal(0, 0.02, 3)
    shade = np.clip(generator.beta(0.9, 1.3) * (1 - 0.5 * melanin) * 3, 0, 2.999)
    low = int(shade)
    colours = np.asarray(_IRIS_COLOURS)
    outer = colours[low] * (1 - (shade - low)) + colours[low + 1] * (shade - low) + normal(0, 0.02, 3)
    inner = outer * uniform(0.8, 1.25) + uniform(0, 0.12) * np.asarray((1.0, 0.6, 0.2))
    around = generator.integers(2, 19, IRIS_WAVES)
    iris_waves = (normal(0, 1, IRIS_WAVES) / np.sqrt(around), around, uniform(-1.5, 1.5, IRIS_WAVES))
    moles = (uniform(-1, 1, MOLES), uniform(-1, 1, MOLES), uniform(0.015, 0.05, MOLES), uniform(-0.5, 0.5, MOLES))
    skin_waves = (normal(0, 0.014, SKIN_WAVES), normal(0, 7, SKIN_WAVES), normal(0, 7, SKIN_WAVES))
    hair = uniform(0.05, 0.3) * (1 - 0.6 * melanin)
    return Identity(
        **_as_float32(
            skin=np.clip(skin, 0.1, 0.95),
            skin_waves=np.stack((*skin_waves, uniform(0, 2 * np.pi, SKIN_WAVES)), axis=-1),
            moles=np.stack(moles, axis=-1),
            half_width=uniform(0.56, 0.72),
            upper=uniform(0.22, 0.38),
            lower=uniform(0.11, 0.20),
            tilt=normal(-0.04, 0.05),
            roundness=uniform(0.55, 1.05),
            skew=uniform(-0.3, 0.3),
            crease=uniform(0.05, 0.18),
            crease_depth=uniform(0.0, 0.45),
            bag_depth=uniform(0.0, 0.3),
            socket_depth=uniform(0.05, 0.4),
            lash_length=uniform(0.02, 0.09),
            lash_rate=uniform(35, 70),
            lash_phase=uniform(0, 2 * np.pi),
            iris_radius=uniform(0.24, 0.29),
            iris_inner=np.clip(inner, 0.04, 0.9),
            iris_outer=np.clip(outer, 0.04, 0.9),
            iris_contrast=uniform(0.15, 0.5),
            iris_waves=np.stack((*iris_waves, uniform(0, 2 * np.pi, IRIS_WAVES)), axis=-1),
            limbus=uniform(0.2, 0.8),
            pupil=uniform(0.34, 0.46),
            brow_y=uniform(-0.80, -0.58),
            brow_arch=uniform(0.0, 0.28),
            brow_tilt=normal(0, 0.08),
            brow_width=uniform(0.05, 0.14),
            brow_colour=np.asarray((1.0, 0.78, 0.62)) * hair,
            brow_density=uniform(0.35, 0.95),
            brow_waves=np.stack(
                (normal(0, 32, BROW_WAVES), normal(0, 20, BROW_WAVES), uniform(0, 2 * np.pi, BROW_WAVES)), axis=-1
            ),
        )
    )


def draw_captures(generator: np.random.Generator, pictures: int) -> Capture:
    """Draw how the pictures of one session were taken: the lamp and the camera stay, the person moves."""
    uniform, normal = generator.uniform, generator.normal
    tint, slope = normal(1, 0.07, 3), normal(0, 0.2, 2)
    gain, gamma = uniform(0.65, 1.3), uniform(0.8, 1.25)
    blur, noise = uniform(0.002, 0.011), uniform(0.008, 0.035)
    wears_glasses = uniform() < 0.12
    lamp = normal(0, 0.35, 2)
    glasses = (uniform(0.78, 0.98), uniform(0.5, 0.75), uniform(0, 0.5))
    many = (pictures,)
    return Capture(
        **_as_float32(
            shift=normal(0, 0.035, (*many, 2)),
            turn=normal(0, 0.05, many),
            scale=normal(1, 0.035, many),
            gaze=normal(0, 1, (*many, 2)) * (0.09, 0.03),
            pupil=uniform(0.75, 1.3) * normal(1, 0.06, many),
            openness=np.clip(normal(0.92, 0.12, many), 0.45, 1.1),
            gain=gain * normal(1, 0.08, many),
            gamma=np.broadcast_to(gamma, many),
            tint=np.broadcast_to(tint, (*many, 3)),
            slope=slope + normal(0, 0.06, (*many, 2)),
            highlight=np.column_stack((normal(0, 0.05, (*many, 2)) + lamp, uniform(0.08, 0.2, many))),
            glasses=np.broadcast_to((float(wears_glasses), *glasses), (*many, 4)),
            hairs=np.stack(
                (
                    (uniform(size=(*many, HAIRS)) < 0.1) * uniform(0.4, 0.9, (*many, HAIRS)),
                    uniform(-1, 1, (*many, HAIRS)),
                    normal(0, 0.4, (*many, HAIRS)),
                    normal(0, 0.2, (*many, HAIRS)),
                ),
                axis=-1,
            ),
            blur=blur * uniform(0.6, 1.5, many),
            noise=np.broadcast_to(noise, many),
        )
    )


def repeated(identity: Identity, pictures: int) -> Identity:
    """One eye for several pictures of it: every field `[pictures, ...]`."""
    return Identity(
        **{f.name: np.repeat(np.asarray(getattr(identity, f.name))[None], pictures, axis=0) for f in fields(identity)}
    )


def joined(parts: Sequence[_Fields]) -> _Fields:
    """Several groups of pictures as one, field by field."""
    kind = type(parts[0])
    return kind(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(kind)})


def render(identity: Identity, capture: Capture, noise: Floats, *, size: int) -> NDArray[np.uint8]:
    """Draw pictures.

    Args:
        identity: Whose eyes, `[pictures, ...]`.
        capture: How taken, `[pictures, ...]`.
        noise: Standard normal, `[pictures, size, size, 3]`: the sensor's, which `capture.noise` scales.
        size: Height and width, in pixels.

    Returns:
        `[pictures, size, size, 3]`, RGB.
    """
    x, y = _plane(capture, size)
    pixel = 2.0 / size
    upper, lower, inside = _lids(identity, capture, x)
    image = _skin(identity, x, y, upper, lower)
    opening = _edge(y - upper, pixel) * _edge(lower - y, pixel) * inside
    image = _over(image, _eyeball(identity, capture, x, y, upper, pixel), opening)
    image *= 1 - _lashes(identity, x, y, upper, inside)[..., None]
    image = _over(image, _wide(identity.brow_colour), _brow(identity, x, y))
    image = _behind(image, capture, x, y)
    return _taken(image, capture, noise, x, y)


def _as_float32(**values: object) -> dict[str, Floats]:
    return {name: np.asarray(value, dtype=np.float32) for name, value in values.items()}


def _map(values: Floats) -> Floats:
    """One number a picture, `[pictures]`, so that it meets the pixels `[pictures, size, size]`."""
    return values[:, None, None]


def _wide(colour: Floats) -> Floats:
    """One colour a picture, `[pictures, 3]`, so that it meets `[pictures, size, size, 3]`."""
    return colour[:, None, None, :]


def _edge(distance: Floats, pixel: float) -> Floats:
    """1 inside, 0 outside, and the share that is inside for a pixel on the edge."""
    share: Floats = np.clip(distance / np.float32(pixel) + np.float32(0.5), 0, 1)
    return share


def _over(below: Floats, above: Floats, share: Floats) -> Floats:
    return below + (above - below) * share[..., None]


def _bump(distance: Floats, width: Floats | float) -> Floats:
    """1 in the middle, fading as a bell curve."""
    return np.exp(-((distance / np.asarray(width, dtype=np.float32)) ** 2))


def _plane(capture: Capture, size: int) -> tuple[Floats, Floats]:
    """Each pixel's place on the face: the camera's shift, turn and distance undone."""
    centres = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)) * 2 - 1
    right, down = np.meshgrid(centres, centres)
    right = right[None] - _map(capture.shift[:, 0])
    down = down[None] - _map(capture.shift[:, 1])
    cosines = np.asarray(np.cos(capture.turn) / capture.scale, dtype=np.float32)
    sines = np.asarray(np.sin(capture.turn) / capture.scale, dtype=np.float32)
    cosine, sine = _map(cosines), _map(sines)
    return cosine * right + sine * down, cosine * down - sine * right


def _lids(identity: Identity, capture: Capture, x: Floats) -> tuple[Floats, Floats, Floats]:
    """Height of the upper and the lower lid over each pixel's column, and whether the column is within the corners."""
    along = x / _map(identity.half_width)
    arc = np.maximum(1 - along**2, 0)
    line = _map(identity.tilt) * x
    lean = 1 + _map(identity.skew) * np.clip(along, -1, 1)
    upper = line - _map(identity.upper * capture.openness) * arc ** _map(identity.roundness) * lean
    lower = line + _map(identity.lower) * arc**0.8
    return upper, lower, (np.abs(along) < 1).astype(np.float32)


def _skin(identity: Identity, x: Floats, y: Floats, upper: Floats, lower: Floats) -> Floats:
    light = np.ones_like(x)
    for wave in range(SKIN_WAVES):
        amplitude, across, downwards, phase = (_map(identity.skin_waves[:, wave, part]) for part in range(4))
        light += amplitude * np.cos(across * x + downwards * y + phase)
    light *= 1 - _map(identity.socket_depth) * _bump(x + 0.75, 0.45) * _bump(y + 0.12, 0.4)
    near = _bump(x, _map(identity.half_width) * 1.1)
    light *= 1 - _map(identity.crease_depth) * near * _bump(y - upper + _map(identity.crease), 0.035)
    light *= 1 - _map(identity.bag_depth) * near * _bump(y - lower - 0.13, 0.05)
    light *= 1 + 0.10 * _bump(x, 0.8) * _bump(y + 0.38, 0.15)  # the bone above the eye catches the light
    for mole in range(MOLES):
        left, top, radius, darkness = (_map(identity.moles[:, mole, part]) for part in range(4))
        light *= 1 - np.maximum(darkness, 0) * _bump(np.hypot(x - left, y - top), radius)
    return light[..., None] * _wide(identity.skin)


def _eyeball(identity: Identity, capture: Capture, x: Floats, y: Floats, upper: Floats, pixel: float) -> Floats:
    """White, iris, pupil and the lamp in it, as if there were no lids but for the shadow that the upper one throws."""
    right, down = x - _map(capture.gaze[:, 0]), y - _map(capture.gaze[:, 1]) + 0.06
    radius = _map(identity.iris_radius)
    pupil = radius * np.clip(_map(identity.pupil * capture.pupil), 0.22, 0.7)
    distance = np.hypot(right, down)
    white = np.asarray((0.88, 0.84, 0.82), dtype=np.float32) * (1 - 0.3 * np.minimum(x**2 / 0.4, 1))[..., None]
    ball = np.broadcast_to(white, (*x.shape, 3)).copy()
    # The iris is a fifteenth of the picture and takes most of the arithmetic.
    picture, row, column = places = np.nonzero(distance < radius + pixel)
    share = _edge(radius - distance, 1.5 * pixel)[places][:, None]
    outwards = np.clip((distance - pupil) / (radius - pupil), 0, 1)[places]
    iris = _iris(identity, picture, outwards, np.arctan2(down[places], right[places]))
    ball[picture, row, column] += (iris - ball[places]) * share
    ball = _over(ball, np.full(3, 0.03, dtype=np.float32), _edge(pupil - distance, pixel))
    ball *= (1 - 0.55 * np.exp(-np.maximum(y - upper, 0) / 0.09))[..., None]
    lamp = capture.highlight
    spot = np.hypot(right - radius * _map(lamp[:, 0]), down - radius * _map(lamp[:, 1]))
    return _over(ball, np.full(3, 0.97, dtype=np.float32), _edge(radius * _map(lamp[:, 2]) - spot, pixel))


def _iris(identity: Identity, picture: NDArray[np.int64], outwards: Floats, angle: Floats) -> Floats:
    """Colours of single pixels of irises, `[pixels, 3]`.

    Args:
        identity: `[pictures, ...]`.
        picture: Which picture each pixel belongs to, `[pixels]`.
        outwards: Where each is between the pupil, 0, and the rim, 1.
        angle: Where each is round the pupil, in radians.
    """
    texture = np.zeros_like(outwards)
    for wave in range(IRIS_WAVES):
        amplitude, around, periods, phase = identity.iris_waves[picture, wave].T
        texture += amplitude * np.cos(around * angle + (2 * np.pi) * periods * outwards + phase)
    inner, outer = identity.iris_inner[picture], identity.iris_outer[picture]
    light = np.clip(1 + identity.iris_contrast[picture] * texture, 0.15, 2.2)
    light *= 1 - identity.limbus[picture] * _bump(1 - outwards, 0.16)
    colour: Floats = (inner + outwards[:, None] * (outer - inner)) * light[:, None]
    return colour


def _lashes(identity: Identity, x: Floats, y: Floats, upper: Floats, inside: Floats) -> Floats:
    """How dark the upper lid's edge is, `[pictures, size, size]`."""
    above = upper - y
    strand = 0.6 + 0.4 * np.cos(_map(identity.lash_rate) * (x + 0.6 * x * above) + _map(identity.lash_phase))
    fringe = np.exp(-np.maximum(above, 0) / _map(identity.lash_length)) * strand * (above > 0)
    darkness: Floats = inside * np.clip(0.75 * fringe + 0.7 * _bump(above, 0.022), 0, 0.92)
    return darkness


def _brow(identity: Identity, x: Floats, y: Floats) -> Floats:
    middle = _map(identity.brow_y) + _map(identity.brow_arch) * (x - 0.15) ** 2 + _map(identity.brow_tilt) * x
    half = _map(identity.brow_width) * np.clip(1.15 - 0.55 * np.maximum(x, 0) ** 2, 0.2, 1.2)
    hairs = np.ones_like(x)
    for wave in range(BROW_WAVES):
        across, downwards, phase = (_map(identity.brow_waves[:, wave, part]) for part in range(3))
        hairs += 0.17 * np.cos(across * x + downwards * y + phase)
    ends = _edge(x + 0.86, 0.2) * _edge(0.9 - x, 0.3)
    return np.clip(_map(identity.brow_density) * hairs * _bump(y - middle, half) * ends, 0, 0.97)


def _behind(image: Floats, capture: Capture, x: Floats, y: Floats) -> Floats:
    """The picture behind what is in front of the eye: loose hair, and glasses with their glare."""
    for hair in range(HAIRS):
        strength, left, slope, curve = (_map(capture.hairs[:, hair, part]) for part in range(4))
        image = image * (1 - strength * _bump(x - left - slope * y - curve * y**2, 0.03))[..., None]
    strength, half_width, half_height, glare = (_map(capture.glasses[:, part]) for part in range(4))
    around = (np.abs(x) / half_width) ** 4 + (np.abs(y + 0.02) / half_height) ** 4
    image = image * (1 - 0.8 * strength * _bump(around - 1, 0.22))[..., None]
    across = np.asarray(x + 0.6 * y - 0.35, dtype=np.float32)
    stripe = strength * glare * _bump(across, 0.16) * (around < 1)
    seen: Floats = image + (1 - image) * (0.6 * stripe)[..., None]
    return seen


def _taken(image: Floats, capture: Capture, noise: Floats, x: Floats, y: Floats) -> NDArray[np.uint8]:
    """The light that falls on it, the lens, and the sensor."""
    light = 1 + _map(capture.slope[:, 0]) * x + _map(capture.slope[:, 1]) * y
    lit = image * (np.maximum(light, 0.15) * _map(capture.gain))[..., None] * _wide(capture.tint)
    lit = np.clip(_blurred(lit, capture.blur), 0, 1) ** capture.gamma[:, None, None, None]
    seen = lit + noise * capture.noise[:, None, None, None]
    pixels: NDArray[np.uint8] = np.rint(np.clip(seen, 0, 1) * 255).astype(np.uint8)
    return pixels


def _blurred(images: Floats, width: Floats) -> Floats:
    """Blur each picture with a bell curve of its own standard deviation, in image widths; edges are mirrored."""
    size = images.shape[1]
    reach = max(1, int(np.ceil(3 * float(width.max()) * size)))
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    steps = np.arange(-reach, reach + 1, dtype=np.float32)
    weights = np.exp(-0.5 * (steps / (width[:, None] * size)) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.zeros((len(images), size, *padded.shape[2:]), dtype=np.float32)
    for step in range(2 * reach + 1):
        rows += padded[:, step : step + size] * weights[:, step, None, None, None]
    blurred = np.zeros_like(images, dtype=np.float32)
    for step in range(2 * reach + 1):
        blurred += rows[:, :, step : step + size] * weights[:, step, None, None, None]
    return blurred

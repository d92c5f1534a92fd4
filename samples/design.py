"""What one made-up product is like, before it is drawn: its family, colours, pattern and proportions."""

from __future__ import annotations

import dataclasses

import numpy as np

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "black": (38, 38, 42),
    "white": (240, 240, 236),
    "grey": (136, 140, 146),
    "navy": (34, 48, 92),
    "blue": (38, 96, 190),
    "sky": (126, 184, 226),
    "teal": (20, 126, 130),
    "green": (40, 132, 74),
    "olive": (112, 116, 54),
    "mint": (158, 218, 190),
    "lime": (166, 206, 58),
    "yellow": (246, 210, 60),
    "mustard": (206, 156, 42),
    "orange": (236, 124, 42),
    "rust": (176, 82, 44),
    "red": (204, 42, 48),
    "burgundy": (116, 28, 52),
    "pink": (234, 98, 150),
    "blush": (240, 188, 184),
    "purple": (110, 60, 150),
    "lavender": (182, 162, 220),
    "brown": (100, 66, 44),
    "tan": (196, 156, 112),
    "cream": (238, 224, 190),
}
PATTERNS = ("plain", "striped", "pinstriped", "checked", "dotted", "colour-block", "scattered", "print", "logo")
MOTIFS = ("star", "heart", "leaf", "ring", "bolt", "flower")
WORDS = (
    *("ALTO", "EMBER", "FABLE", "KITE", "LUMEN", "MOSS", "NORTH", "ORBIT"),
    *("OTTO", "PEAK", "RIVER", "SOL", "TIDE", "VESPER", "WREN", "ZEST"),
)
_KNOBS = 8
_MIN_CONTRAST = 70.0  # of 255 in luma: a pattern has to be seen against its ground


@dataclasses.dataclass(frozen=True, slots=True)
class Design:
    """One product, as decided before a pixel is drawn.

    Attributes:
        number: The item's place in the catalog, from 0.
        family: Its category, also the name of its folder.
        colour: The name of its main colour, a key of COLOURS.
        main, accent, trim: Ground colour, pattern colour and small parts, sRGB.
        pattern: One of PATTERNS.
        motif, word: What a print or a logo shows.
        knobs: Proportions and details, each in [0, 1); a family gives them meaning.
    """

    number: int
    family: str
    colour: str
    main: RGB
    accent: RGB
    trim: RGB
    pattern: str
    motif: str
    word: str
    knobs: tuple[float, ...]

    @property
    def item_id(self) -> str:
        """The catalog's item_id, such as mug-000123."""
        return f"{self.family}-{self.number:06d}"

    @property
    def title(self) -> str:
        """A short name for a person, such as 'Alto navy striped mug'."""
        return f"{self.word.capitalize()} {self.colour} {self.pattern} {self.family}"

    def knob(self, index: int, low: float, high: float) -> float:
        """A proportion of this item between low and high."""
        return low + self.knobs[index] * (high - low)


def design_item(family: str, number: int, seed: int) -> Design:
    """Decides what an item is like, from the seed and its number alone, so that a catalog can grow."""
    rng = np.random.Generator(np.random.PCG64([seed, number, 0]))
    names = list(COLOURS)
    colour = names[rng.integers(len(names))]
    main = _jitter(COLOURS[colour], rng)
    contrasting = [rgb for rgb in COLOURS.values() if abs(luma(rgb) - luma(main)) >= _MIN_CONTRAST]
    accent, trim = (_jitter(contrasting[rng.integers(len(contrasting))], rng) for _ in range(2))
    return Design(
        number=number,
        family=family,
        colour=colour,
        main=main,
        accent=accent,
        trim=trim,
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        motif=MOTIFS[rng.integers(len(MOTIFS))],
        word=WORDS[rng.integers(len(WORDS))],
        knobs=tuple(rng.random(_KNOBS).tolist()),
    )


def luma(rgb: RGB) -> float:
    """Perceived brightness, 0 to 255 (ITU-R BT.601 weights)."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def shade(rgb: RGB, factor: float) -> RGB:
    """The colour darkened (factor under 1) or moved towards white (over 1, at most 2)."""
    if factor <= 1:
        red, green, blue = (round(channel * factor) for channel in rgb)
    else:
        red, green, blue = (round(channel + (255 - channel) * (factor - 1)) for channel in rgb)
    return red, green, blue


def _jitter(rgb: RGB, rng: np.random.Generator) -> RGB:
    red, green, blue = np.clip(np.array(rgb) + rng.integers(-9, 10, 3), 0, 255).tolist()
    return red, green, blue

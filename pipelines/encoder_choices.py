"""The encoder that a user asks for, and the one of a run that goes on with a store."""

from __future__ import annotations

import dataclasses

from encoder.decode import RESIZE_MODES
from encoder.source import PRECISIONS
from store.ranges import NATURAL, check_choice, check_ranges


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderChoices:
    """The encoder.

    Attributes:
        backbone: A keras.applications name, in any case.
        weights: imagenet, a .weights.h5, .h5 or .keras file, random or random:SEED.
        precision: auto, float32, bfloat16 or float16.
        image_size: Side of the square pictures in pixels, or 0 for the backbone's own.
        resize: pad, crop or stretch.
        batch_size: Pictures per batch, or 0 for what suits the hardware.
    """

    backbone: str = "resnet50"
    weights: str = "imagenet"
    precision: str = "auto"
    image_size: int = 0
    resize: str = "pad"
    batch_size: int = 0

    def __post_init__(self) -> None:
        """Refuses numbers and words that make no sense, by their names."""
        check_ranges(self, image_size=NATURAL, batch_size=NATURAL)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("resize", self.resize, RESIZE_MODES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreEncoderChoices:
    """The encoder of a run that goes on with a store: what is None is as the store's embeddings were made.

    In a store without any, and for all the rest where another backbone is named, None is EncoderChoices' default.

    Attributes:
        backbone: See EncoderChoices, as all the others.
        weights: None for the store's own file of them.
        precision: See EncoderChoices.
        image_size: See EncoderChoices.
        resize: See EncoderChoices.
        batch_size: 0 for what suits the hardware.
    """

    backbone: str | None = None
    weights: str | None = None
    precision: str | None = None
    image_size: int | None = None
    resize: str | None = None
    batch_size: int = EncoderChoices.batch_size

    def check(self) -> None:
        """Refuses what `EncoderChoices` would refuse."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        names = [field.name for field in dataclasses.fields(StoreEncoderChoices)]
        EncoderChoices(**{name: given[name] for name in names if name in given})

"""What becomes of a picture on the assembly line."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from store.rejects import Reason


@dataclasses.dataclass(frozen=True, slots=True)
class PictureJob:
    """A picture to embed.

    Attributes:
        image_uri: As the catalog has it.
        known_version: What its source may be asked about; "" where it must be fetched.
    """

    image_uri: str
    known_version: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class EmbeddedPicture:
    """A picture that got its embedding.

    Attributes:
        source_version: Of its source, as `fetch.source_version` tells it.
        width, height: Pixels after orientation.
        content_sha256: Hex, of the encoded bytes.
        norm: L2 norm of the model's output.
        embedding: float32[D], unit L2 norm.
    """

    job: PictureJob
    source_version: str
    width: int
    height: int
    content_sha256: str
    norm: float
    embedding: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Unchanged:
    """A picture that was not fetched: its source says that it is still as known."""

    job: PictureJob


@dataclasses.dataclass(frozen=True, slots=True)
class SameContent:
    """A picture whose bytes were fetched and have an embedding already.

    Attributes:
        source_version: Of its source.
        content_sha256: Hex, of the encoded bytes.
        place: Where the embedding is.
    """

    job: PictureJob
    source_version: str
    content_sha256: str
    place: int


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedPicture:
    """A picture without an embedding, and why; `passing` where it may have one tomorrow."""

    job: PictureJob
    reason: Reason
    detail: str
    passing: bool = False


PictureOutcome = EmbeddedPicture | Unchanged | SameContent | RefusedPicture

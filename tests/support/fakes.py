"""Fakes behind the protocols: an encoder that costs nothing and says where its numbers come from."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import numpy.typing as npt

from encoder.spec import EncoderSpec

FAKE_DIM = 16


class FakeEncoder:
    """Embeds a picture as means over its quarters and channels, so equal pictures get equal embeddings.

    Args:
        batch_size: Largest batch it takes.
        hold_s: Seconds a batch is held without using the processor, as a GPU does.
        embedding_dim: D; the means are repeated to fill it.
    """

    def __init__(self, batch_size: int = 8, hold_s: float = 0.0, embedding_dim: int = FAKE_DIM) -> None:
        self.batch_size = batch_size
        self.embedding_dim = embedding_dim
        self.batches: list[int] = []
        self._hold_s = hold_s
        self._device = threading.Lock()

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8[n, S, S, 3] -> float32[n, D]."""
        if len(pixels) > self.batch_size:
            raise ValueError(f"expected at most {self.batch_size} pictures, found {len(pixels)}")
        with self._device:
            self.batches.append(len(pixels))
            if self._hold_s:
                time.sleep(self._hold_s)
        step = max(1, pixels.shape[1] // 16)  # a few pixels tell pictures apart and cost no time
        sample = pixels[:, ::step, ::step]
        half = sample.shape[1] // 2
        quarters = [sample[:, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
        means = np.concatenate([quarter.mean(axis=(1, 2)) for quarter in quarters], axis=1) + 1.0
        return np.resize(means.astype(np.float32).T, (self.embedding_dim, len(pixels))).T.copy()


@dataclasses.dataclass(frozen=True, slots=True)
class FakeEncoderSource:
    """Travels to workers and makes a FakeEncoder there."""

    image_size: int = 32
    resize: str = "pad"
    batch_size: int = 8
    hold_s: float = 0.0
    embedding_dim: int = FAKE_DIM
    given_precision: bool = True

    def _spec(self) -> EncoderSpec:
        return EncoderSpec("Fake", "none", "0" * 64, "float32", self.image_size, "pad", self.embedding_dim)

    @property
    def fixed_spec(self) -> EncoderSpec | None:
        """The spec, unless pictures are to decide."""
        return self._spec() if self.given_precision else None

    def choose(self, pixels: npt.NDArray[np.uint8]) -> tuple[EncoderSpec, str]:
        """Always float32, after a look at the pictures' shape."""
        if pixels.shape[1:] != (self.image_size, self.image_size, 3):
            raise ValueError(f"unexpected pictures {pixels.shape}")
        return self._spec(), ""

    def load(self, spec: EncoderSpec) -> FakeEncoder:
        """A new fake."""
        return FakeEncoder(self.batch_size, self.hold_s, self.embedding_dim)

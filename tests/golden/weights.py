"""Weights of MobileNetV3Small that are the same bytes on every processor: whole numbers, scaled by powers of two."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np


def write_weights(path: Path) -> Path:
    """Writes them as a .weights.h5 file.

    Args:
        path: Ends in .weights.h5.
    """
    from encoder.tensorflow import keras as load_keras

    keras = load_keras()
    model = keras.applications.MobileNetV3Small(input_shape=(32, 32, 3), include_top=False, weights=None, pooling="avg")
    rng = np.random.default_rng(0)
    for layer in model.layers:
        values = [_exact(rng, value) if value.ndim > 1 else value for value in layer.get_weights()]
        if values:
            layer.set_weights(values)
    model.save_weights(path)
    return path


def _exact(rng: np.random.Generator, value: np.ndarray) -> np.ndarray:
    """Kernels of the given shape, about as large as what they add up asks for."""
    fan_in = math.prod(value.shape[:-1])
    scale = 2.0 ** -(6 + math.ceil(math.log2(fan_in) / 2))
    return (rng.integers(-128, 128, value.shape) * scale).astype(np.float32)

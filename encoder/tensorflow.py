"""The one place that loads TensorFlow: quiet, with one GPU per process, and only when something needs it."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from typing import Any


@functools.cache
def tensorflow() -> Any:
    """The TensorFlow module, imported and set up on the first call (about 2 s)."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")
    _take_one_gpu(tf)
    return tf


def keras() -> Any:
    """The Keras module, over a TensorFlow that is set up."""
    tensorflow()
    import keras

    return keras


def has_gpu() -> bool:
    """Whether TensorFlow computes on a GPU in this process."""
    return bool(tensorflow().config.get_visible_devices("GPU"))


def _take_one_gpu(tf: Any) -> None:
    """Leaves one GPU visible, by process id so that worker processes spread, and lets its memory grow."""
    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        return
    gpu = gpus[os.getpid() % len(gpus)]
    # A host program that has already computed on its GPUs keeps the settings it chose.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices(gpu, "GPU")
        tf.config.experimental.set_memory_growth(gpu, True)

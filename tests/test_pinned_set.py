"""The pinned set loads together, and tensorflow-io's decoders, which are not ours, find the pixels that ours finds."""

from __future__ import annotations

import io
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it once, when it is first imported

import numpy as np
import pytest
from PIL import Image

from encoder.decode import DecodeOptions, decode_picture
from tests.support.hostile import encoded, photo

SIZE = 64


@pytest.fixture(scope="module")
def tfio():
    pytest.importorskip("tensorflow")
    import tensorflow_io

    return tensorflow_io


def test_all_six_load_in_one_process():
    import apache_beam
    import pyarrow
    import scann
    import tensorflow as tf
    import tensorflow_io

    assert apache_beam.__version__.startswith("2.")
    assert pyarrow.array([1, 2]).to_numpy().sum() == np.sum([1, 2]) == int(tf.reduce_sum([1, 2]))
    assert tensorflow_io.__version__ == "0.37.1"
    assert scann.scann_ops_pybind is not None

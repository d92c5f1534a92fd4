"""The pinned set loads together, and tensorflow-io's decoders, which are not ours, find the pixels that ours finds."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it once, when it is first imported

import apache_beam
import numpy as np
import pyarrow as pa
import pytest
import scann
import tensorflow as tf
import tensorflow_io as tfio

from encoder.decode import DecodeOptions, decode_picture
from tests.support.hostile import encoded, photo


def test_all_six_work_in_one_process():
    with apache_beam.Pipeline("DirectRunner") as pipeline:
        pipeline | apache_beam.Create([1, 2]) | apache_beam.CombineGlobally(sum)
    assert int(tf.reduce_sum(np.arange(4))) == 6
    assert pa.array(np.arange(4)).sum().as_py() == 6
    assert tfio.__version__


@pytest.mark.parametrize(
    ("name", "options", "largest"),
    [
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 80}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        # tensorflow-io turns YUV into RGB more coarsely: up to 12 levels from what was stored.
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 16),
    ],
)
def test_tensorflow_io_finds_the_pixels_that_we_find(name, options, largest):
    decoders = {
        "WEBP": tfio.image.decode_webp,
        "TIFF": tfio.experimental.image.decode_tiff,
        "AVIF": tfio.experimental.image.decode_avif,
    }
    data = encoded(photo(64, 64), name, **options)
    theirs = decoders[name](data).numpy()[..., :3].astype(int)
    ours = decode_picture(data, DecodeOptions(image_size=64)).pixels.astype(int)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() <= largest
    drawn = np.asarray(photo(64, 64)).astype(int)
    assert np.abs(ours - drawn).mean() <= np.abs(theirs - drawn).mean()


def test_a_tiny_index_finds_each_vector_itself():
    vectors = np.random.default_rng(7).normal(size=(200, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    builder = scann.scann_ops_pybind.builder(vectors, 3, "dot_product")
    searcher = builder.tree(10, 10, training_sample_size=200).score_ah(2).reorder(30).build()
    found, scores = searcher.search_batched(vectors)
    assert found.shape == (200, 3)
    assert (found[:, 0] == np.arange(200)).mean() > 0.98
    assert scores[:, 0].mean() == pytest.approx(1, abs=0.01)

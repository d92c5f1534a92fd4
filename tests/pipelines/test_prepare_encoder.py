"""Which encoder a run works with: the one that is named, or the store's own."""

from __future__ import annotations

import pytest

from encoder.source import fetch_weights
from pipelines.log import LOG
from pipelines.prepare_encoder import choose_encoder
from pipelines.requests import EmbedRequest, ReindexRequest
from store.damage import ignore
from store.location import Store
from tests.support.small_store import SmallStore, make_small_store


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallStore:
    """Embedded by MobileNetV3Small, 64 px, float32, weights random:3."""
    return make_small_store(tmp_path_factory.mktemp("small"), items=2, views=1)


def chosen(request, small, scratch):
    source, previous, why_none = choose_encoder(request, Store(small.uri), Store(str(scratch)), ignore)
    return source, previous.name if previous else None, why_none


def test_a_reindexing_run_goes_on_with_the_stores_encoder(small, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(LOG, "propagate", True)  # a command that ran before may have turned it off
    source, previous, why_none = chosen(ReindexRequest("c", small.uri), small, tmp_path)
    assert source.spec.to_manifest() == small.encoder
    assert (source.precision, previous, why_none) == ("float32", small.manifest.snapshot, "")
    assert "random:3) are untrained" in caplog.text, "what the store's weights are is not forgotten"
    assert not (tmp_path / "weights").exists(), "they lie in the store already"
    assert fetch_weights(source.store, source.spec.weights_sha256).is_file()


def test_what_is_named_is_taken_and_the_rest_stays(small, tmp_path):
    request = ReindexRequest("c", small.uri, image_size=48, backbone="MobileNetV3Small", batch_size=4, resize="crop")
    source, previous, why_none = chosen(request, small, tmp_path)
    expected = {**small.encoder, "image_size": 48, "resize": "crop", "fingerprint": source.spec.fingerprint}
    assert source.spec.to_manifest() == expected
    assert (source.batch_size, previous) == (4, None)
    assert "image_size 64 -> 48, resize pad -> crop" in why_none


def test_other_weights_for_the_same_backbone(small, tmp_path):
    source, previous, _ = chosen(ReindexRequest("c", small.uri, weights="random:4"), small, tmp_path)
    assert (source.spec.backbone, source.spec.image_size, source.spec.weights) == ("MobileNetV3Small", 64, "random:4")
    assert previous is None


def test_another_backbone_brings_its_own_defaults(small, tmp_path):
    request = ReindexRequest("c", small.uri, backbone="mobilenetv2", weights="random")
    source, _, _ = chosen(request, small, tmp_path)
    assert (source.spec.backbone, source.spec.image_size, source.precision) == ("MobileNetV2", 224, "auto")


def test_a_new_store_gets_what_embed_would_take(tmp_path):
    request = ReindexRequest("c", tmp_path, backbone="mobilenetv3small", weights="random", image_size=32)
    source, previous, why_none = choose_encoder(request, Store(str(tmp_path)), Store(str(tmp_path)), ignore)
    plain = EmbedRequest("c", tmp_path, backbone="mobilenetv3small", weights="random", image_size=32)
    assert source == choose_encoder(plain, Store(str(tmp_path)), Store(str(tmp_path)), ignore)[0]
    assert (previous, why_none) == (None, "")

"""The encoder that a run works with: its weights in the store, and the snapshot whose embeddings it can use again."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

from encoder.backbones import find_backbone
from encoder.source import KerasEncoderSource, open_source, publish_weights
from encoder.spec import EncoderSpec
from encoder.weights import ResolvedWeights, resolve_weights
from pipelines.encoder_choices import EncoderChoices, StoreEncoderChoices
from pipelines.incremental import choose_previous
from pipelines.log import LOG
from pipelines.requests import EmbedRequest, ReindexRequest
from store.damage import OnDamage, ignore, whole_snapshots
from store.index import is_untrained
from store.location import Store
from transforms.previous import PreviousSnapshot


def prepare_encoder(store: Store, request: EncoderChoices) -> tuple[KerasEncoderSource, ResolvedWeights]:
    """Resolves weights once, here, and puts them into the store for the workers.

    Raises:
        UserError: Unknown backbone, weights that cannot be had or belong to another architecture.
    """
    backbone = find_backbone(request.backbone)
    image_size = request.image_size or backbone.default_image_size
    scratch = Path(tempfile.mkdtemp(prefix="shelfmark-weights-"))
    try:
        resolved = resolve_weights(request.weights, backbone, image_size, scratch)
        publish_weights(store, resolved.path, resolved.sha256)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if resolved.trained and resolved.label != "imagenet" and backbone.name.startswith("EfficientNetB"):
        LOG.warning(
            f"{backbone.name}: Keras rescales its input once more when it starts from ImageNet weights, which a "
            "weights file does not tell; if this file was trained so, expect wrong embeddings"
        )
    spec = EncoderSpec(
        backbone=backbone.name,
        weights=resolved.label,
        weights_sha256=resolved.sha256,
        precision="float32",
        image_size=image_size,
        resize=request.resize,
        embedding_dim=resolved.embedding_dim,
    )
    return KerasEncoderSource(store, spec, request.precision, request.batch_size), resolved


def prepare_as_before(store: Store, scratch: Store, choices: StoreEncoderChoices) -> tuple[KerasEncoderSource, str]:
    """The encoder of the store's newest embeddings, but for what was chosen otherwise; and its weights' label.

    Args:
        store: Has the embeddings, and the weights that they were made with.
        scratch: Gets the weights where others are chosen.
        choices: None for what is to stay.

    Raises:
        UserError, StoreError: See `prepare_encoder` and `encoder.source.open_source`.
    """
    newest = next(whole_snapshots(store, ignore), None)
    entry = None if newest is None else newest.encoder
    stays = entry is not None and (choices.backbone or entry["backbone"]).lower() == entry["backbone"].lower()
    if entry is not None and stays and choices.weights is None:
        source = open_source(store, entry)
        spec = dataclasses.replace(
            source.spec,
            image_size=choices.image_size or source.spec.image_size,
            resize=choices.resize or source.spec.resize,
        )
        precision = choices.precision or source.precision
        return KerasEncoderSource(store, spec, precision, choices.batch_size), spec.weights
    names = [field.name for field in dataclasses.fields(EncoderChoices)]
    given = {name: getattr(choices, name) for name in names if getattr(choices, name) is not None}
    kept = {name: entry[name] for name in ("backbone", "precision", "image_size", "resize")} if entry and stays else {}
    source, weights = prepare_encoder(scratch, EncoderChoices(**{**kept, **given}))
    return source, weights.label


def choose_encoder(
    request: EmbedRequest | ReindexRequest, store: Store, scratch: Store, on_damage: OnDamage
) -> tuple[KerasEncoderSource, PreviousSnapshot | None, str]:
    """The encoder that was asked for, its weights put into `scratch`, and the snapshot whose embeddings it can use.

    Args:
        request: Names the encoder.
        store: Where snapshots lie.
        scratch: Gets the weights; the same store, or a temporary one.
        on_damage: Told of snapshots that are not whole.

    Returns:
        The encoder, the snapshot or None, and why there is none where one would be expected.

    Raises:
        UserError: The encoder cannot be had.
        StoreError: The store cannot be read, or a snapshot is of another format.
    """
    if isinstance(request, EncoderChoices):
        source, weights = prepare_encoder(scratch, request)
        label = weights.label
    else:
        source, label = prepare_as_before(store, scratch, request)
    if is_untrained(label):
        LOG.warning(f"The weights ({label}) are untrained: similarities will mean nothing.")
    if request.full:
        return source, None, ""
    previous, source, why_none = choose_previous(store, source, on_damage)
    return source, previous, why_none

"""What an embedding was made with, and the fingerprint that keeps embeddings of two encoders apart."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from encoder.decode import PREPROCESSING_VERSION
from store.errors import StoreError

POOLING = "avg"


@dataclasses.dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Everything that decides an embedding's numbers, and the label its weights go by.

    Attributes:
        backbone: Canonical keras.applications name, such as "ResNet50".
        weights: What the weights are called: "imagenet", "random:SEED" or a file name. Not part of the fingerprint.
        weights_sha256: Hex digest over the weights' content (`encoder.weights.weights_digest`).
        precision: "float32", "bfloat16" or "float16"; never "auto".
        image_size: Side of the square picture the model takes, in pixels.
        resize: How a picture is brought to that square, as `encoder.decode` names it.
        embedding_dim: Length of an embedding.
    """

    backbone: str
    weights: str
    weights_sha256: str
    precision: str
    image_size: int
    resize: str
    embedding_dim: int

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over everything that changes the numbers."""
        changes_the_numbers = {
            "backbone": self.backbone,
            "weights_sha256": self.weights_sha256,
            "precision": self.precision,
            "preprocessing_version": PREPROCESSING_VERSION,
            "image_size": self.image_size,
            "resize": self.resize,
            "pooling": POOLING,
        }
        canonical = json.dumps(changes_the_numbers, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_manifest(self) -> dict[str, Any]:
        """The manifest's `encoder` entry, in the manifest's order."""
        return {**dataclasses.asdict(self), "fingerprint": self.fingerprint}

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> EncoderSpec:
        """The spec that a manifest's `encoder` entry holds.

        Raises:
            StoreError: A field is missing, or the fingerprint is not the one these fields have in this release.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        missing = [name for name in (*names, "fingerprint") if name not in manifest]
        if missing:
            raise StoreError(f"encoder manifest: expected the fields {', '.join(missing)}, found none; embed again")
        spec = cls(**{name: manifest[name] for name in names})
        if spec.fingerprint != manifest["fingerprint"]:
            raise StoreError(
                f"encoder manifest: expected fingerprint {spec.fingerprint[:12]} (preprocessing version "
                f"{PREPROCESSING_VERSION}), found {str(manifest['fingerprint'])[:12]}; embed the catalog again"
            )
        return spec

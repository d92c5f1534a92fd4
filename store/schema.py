"""Arrow schemas of the Parquet files in a store. Readers depend on them: a change is a new format version."""

from __future__ import annotations

import pyarrow as pa

FORMAT_VERSION = 1

FORMAT_VERSION_KEY = b"shelfmark.format_version"
FINGERPRINT_KEY = b"shelfmark.encoder_fingerprint"

_ROW_IDENTITY = (
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("item_id", pa.string(), nullable=False),
    pa.field("image_uri", pa.string(), nullable=False),
)


def embedding_schema(embedding_dim: int, fingerprint: str) -> pa.Schema:
    """Schema of `part-*.parquet`: one row per embedded picture.

    Args:
        embedding_dim: D, the length of an embedding.
        fingerprint: The encoder's, kept in the file's metadata.

    Returns:
        `embedding` is float32[D] with unit L2 norm; embedding x embedding_norm is the model's own output;
        `width` and `height` are pixels after EXIF orientation; `content_sha256` is hex, of the encoded bytes.
    """
    return pa.schema(
        [
            *_ROW_IDENTITY,
            pa.field("source_version", pa.string()),
            pa.field("content_sha256", pa.string(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("attributes", pa.map_(pa.string(), pa.string())),
            pa.field("embedding_norm", pa.float32(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), embedding_dim), nullable=False),
        ],
        metadata={FORMAT_VERSION_KEY: str(FORMAT_VERSION).encode(), FINGERPRINT_KEY: fingerprint.encode()},
    )


_CAUSE = (
    pa.field("stage", pa.string(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("detail", pa.string(), nullable=False),
)

REJECTED_SCHEMA = pa.schema([*_ROW_IDENTITY, *_CAUSE], metadata={FORMAT_VERSION_KEY: str(FORMAT_VERSION).encode()})

STALE_SCHEMA = pa.schema(
    [*_ROW_IDENTITY, *_CAUSE, pa.field("stale_runs", pa.int32(), nullable=False)],
    metadata={FORMAT_VERSION_KEY: str(FORMAT_VERSION).encode()},
)
"""Of `stale-*.parquet`: rows of `part-*` that keep an embedding from before, as their picture could not be had now; why
it could not, and for how many runs in a row."""

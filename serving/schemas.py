"""What requests hold and what answers look like: the models behind the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.options import MAX_K, MAX_VECTORS

K = Annotated[int, Field(ge=1, le=MAX_K, description="answers wanted")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Vector = Annotated[
    Annotated[list[Number], Field(min_length=1)] | str,
    Field(description="as many numbers as the index has dimensions, or base64 of them as little-endian float32"),
]
MAX_TEXT = 4096
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Id = Annotated[Text, Field(min_length=1)]
_PIXELS = 1 << 31


class CropBox(BaseModel):
    """A part of a picture, in pixels of the upright picture."""

    model_config = ConfigDict(extra="forbid")

    x: Annotated[int, Field(ge=0, lt=_PIXELS)]
    y: Annotated[int, Field(ge=0, lt=_PIXELS)]
    width: Annotated[int, Field(ge=1, lt=_PIXELS)]
    height: Annotated[int, Field(ge=1, lt=_PIXELS)]


class SearchDocument(BaseModel):
    """A search by vector, by a picture or item of the index, or by the URL of a picture: exactly one of these."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"image_id": "0a1b2c3d4e5f60718293", "k": 5, "where": {"category": "shoe"}},
                {"item_id": "sku-1042", "group_by": "item"},
                {"vector": [0.12, 0.0, 0.53, 0.08], "k": 3},
                {
                    "image_url": "https://images.example.com/shoe.jpg",
                    "crop": {"x": 0, "y": 0, "width": 80, "height": 60},
                },
            ]
        },
    )

    vector: Vector | None = None
    vectors: Annotated[list[Vector], Field(min_length=1, max_length=MAX_VECTORS)] | None = None
    image_id: Id | None = None
    item_id: Id | None = None
    image_url: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    k: K | None = None
    where: Annotated[dict[Text, Text], Field(description="attributes that every answer must have")] | None = None
    group_by: Literal["item"] | None = None
    crop: CropBox | None = None


_HIT = {
    "score": 0.913402,
    "item_id": "sku-1042",
    "image_id": "0a1b2c3d4e5f60718293",
    "image_uri": "images/sku-1042-front.jpg",
    "attributes": {"category": "shoe", "title": "Blue canvas shoe"},
}
_VERSION = {"version": "20261121T040000Z-4d5e6f"}
_NAMES = {**_VERSION, "snapshot": "20261121T031500Z-1a2b3c"}


def _example(document: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [document]})


class HitAnswer(BaseModel):
    """One answer."""

    score: Annotated[float, Field(description="cosine with the query, at most 1")]
    item_id: str
    image_id: str
    image_uri: Annotated[str, Field(description="as the catalog has it")]
    attributes: dict[str, str]


class PictureAnswer(BaseModel):
    """A query picture, in pixels after orientation."""

    width: int
    height: int


class QueryAnswer(BaseModel):
    """The answers to one query, best first."""

    picture: PictureAnswer | None = None
    hits: list[HitAnswer]


class SearchAnswer(BaseModel):
    """The answers to each query, in the order of the queries."""

    model_config = _example({**_NAMES, "queries": [{"picture": {"width": 640, "height": 480}, "hits": [_HIT]}]})

    version: str
    snapshot: str
    queries: list[QueryAnswer]


class SimilarAnswer(BaseModel):
    """Other items that look like one, each with its best picture."""

    model_config = _example({**_NAMES, "item_id": "sku-7", "hits": [_HIT]})

    version: str
    snapshot: str
    item_id: str
    hits: list[HitAnswer]


class ImageAnswer(BaseModel):
    """A picture of the index."""

    model_config = _example({**_VERSION, **{name: value for name, value in _HIT.items() if name != "score"}})

    version: str
    image_id: str
    item_id: str
    image_uri: str
    attributes: dict[str, str]


class LimitsAnswer(BaseModel):
    """What a request may ask for."""

    k: int
    vectors: int
    upload_bytes: int
    pixels: int


class IndexAnswer(BaseModel):
    """The version that is served."""

    model_config = _example(
        {
            **_NAMES,
            "created_at": "2026-11-21T04:00:00+00:00",
            "vectors": 100000,
            "shards": 1,
            "kind": "tree",
            "recall": {"k": 10, "target": 0.95, "measured": 0.9568, "queries": 1000},
            "memory_bytes": 15096452,
            "encoder": {"backbone": "ResNet50", "weights": "imagenet", "precision": "float32", "embedding_dim": 2048},
            "untrained": False,
            "pictures": True,
            "picture_urls": False,
            "limits": {"k": 1000, "vectors": 64, "upload_bytes": 16777216, "pixels": 64000000},
        }
    )

    version: str
    snapshot: str
    created_at: str
    vectors: int
    shards: int
    kind: Literal["tree", "exact"]
    recall: Annotated[dict[str, Any], Field(description="k, target, measured, queries")]
    memory_bytes: int
    encoder: dict[str, Any]
    untrained: Annotated[bool, Field(description="true where similarities mean nothing")]
    pictures: Annotated[bool, Field(description="whether query pictures are taken")]
    picture_urls: Annotated[bool, Field(description="whether pictures may be named by URL")]
    limits: LimitsAnswer


class ValueAnswer(BaseModel):
    """A value of an attribute."""

    value: str
    rows: int


class AttributeAnswer(BaseModel):
    """An attribute that rows can be filtered by, with its most frequent values."""

    name: str
    distinct: int
    values: list[ValueAnswer]


class AttributesAnswer(BaseModel):
    """What rows can be filtered by."""

    model_config = _example(
        {**_VERSION, "attributes": [{"name": "category", "distinct": 1, "values": [{"value": "shoe", "rows": 33}]}]}
    )

    version: str
    attributes: list[AttributeAnswer]


class ReloadAnswer(BaseModel):
    """The version that is served now."""

    model_config = _example({**_VERSION, "changed": True})

    version: str
    changed: bool


class RefusedAnswer(BaseModel):
    """A version that CURRENT names and that is not served."""

    version: str
    reason: str


class ReadyAnswer(BaseModel):
    """Whether requests are answered, and by which version."""

    model_config = _example({"status": "ready", **_VERSION, "refused": None})

    status: Literal["ready"]
    version: str
    refused: RefusedAnswer | None


class HealthAnswer(BaseModel):
    """The process is there."""

    model_config = _example({"status": "ok"})

    status: Literal["ok"]


class ProblemDocument(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: Annotated[str, Field(description="what was expected and what was found")]
    request_id: str
    reason: Annotated[str | None, Field(description="of a picture: why it cannot be embedded")] = None

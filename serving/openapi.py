"""What routes cannot say of themselves by types: bodies of several kinds, parameters, errors."""

from __future__ import annotations

from typing import Any

from serving.options import MAX_K
from serving.problem import MEDIA_TYPE
from serving.schemas import SearchDocument
from serving.thumbnails import SIZES_PX

_K = {
    "name": "k",
    "in": "query",
    "description": "answers wanted (default: 10)",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_K},
    "example": 5,
}
_WHERE = {
    "name": "where",
    "in": "query",
    "description": "ATTRIBUTE=VALUE that every answer must have; may be repeated",
    "schema": {"type": "array", "items": {"type": "string", "pattern": "^[^=]+="}},
    "example": ["category=shoe"],
}
_GROUP_BY = {
    "name": "group_by",
    "in": "query",
    "description": "item: the best picture of each item",
    "schema": {"type": "string", "enum": ["item"]},
}
_CROP = {
    "name": "crop",
    "in": "query",
    "description": "x,y,width,height of the part to search for, in pixels of the upright picture",
    "schema": {"type": "string", "pattern": r"^\d{1,9},\d{1,9},[1-9]\d{0,8},[1-9]\d{0,8}$"},
    "example": "10,20,200,150",
}
_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {**_FILE, "description": "the picture"},
        **{part["name"]: part["schema"] for part in (_K, _WHERE, _GROUP_BY, _CROP)},
    },
}

SEARCH: dict[str, Any] = {
    "parameters": [_K, _WHERE, _GROUP_BY, _CROP],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": f"#/components/schemas/{SearchDocument.__name__}"}},
            "multipart/form-data": {"schema": _FORM},
            "image/*": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
        },
    },
}
SIMILAR: dict[str, Any] = {"parameters": [_K, _WHERE]}
THUMBNAIL: dict[str, Any] = {
    "parameters": [
        {
            "name": "size",
            "in": "query",
            "description": f"longest side in pixels (default: {SIZES_PX[0]})",
            "schema": {"type": "integer", "enum": list(SIZES_PX)},
        }
    ]
}

_SAYS = {
    400: "Not a request of this kind",
    401: "No API key, or another",
    404: "There is no such thing",
    408: "The request came too slowly",
    409: "The version that CURRENT names was refused; the one before is still served",
    413: "The body is too large",
    415: "A body of another kind",
    422: "The request says something unexpected, or the picture cannot be embedded",
    503: "No room now; Retry-After says when to try again",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these errors; every route of the API may with 401, 408, 503."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    return {status: {"description": _SAYS[status], "content": content} for status in sorted({401, 408, 503, *statuses})}


DESCRIPTION = """What looks like this? Answers for a picture, an item or a vector, from a published index.

Errors are problem documents (RFC 9457). Where keys are configured, `/v1` and `/metrics` want one as
`Authorization: Bearer KEY` or `X-API-Key: KEY`."""

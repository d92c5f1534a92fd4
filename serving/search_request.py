"""From a request's body and parameters to what is asked for; says what was expected where it makes no sense."""

from __future__ import annotations

import array
import base64
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pydantic
from fastapi import Request

from encoder.decode import Box
from serving.options import MAX_K, MAX_VECTORS
from serving.problem import Problem
from serving.schemas import MAX_TEXT, SearchDocument
from serving.uploads import Forms

Vector = npt.NDArray[np.float32] | npt.NDArray[np.float64]

DEFAULT_K = 10
MAX_ANSWERS = 10_000
"""Of one request, over all its queries."""

SEARCH_OPTIONS = ("k", "where", "group_by", "crop")
QUERIES = ("vector", "vectors", "image_id", "item_id", "image_url")
_MOST_MARKS = {b",": 1 << 20, b"[": 10_000, b"{": 10_000, b'"': 10_000}
"""In a document. With more of them even 4 MiB of JSON take a second in which nobody is answered."""

_SMALL_BYTES = 64 << 10
_CROP_NAMES = ("x", "y", "width", "height")


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How to search; None where a request does not say.

    Attributes:
        k: Answers to each query.
        where: Attributes that answers must have.
        group_by: "item" for one picture of each item.
        crop: The part of the picture to search for.
    """

    k: int | None = None
    where: Mapping[str, str] | None = None
    group_by: str | None = None
    crop: Box | None = None

    @property
    def sorted_where(self) -> tuple[tuple[str, str], ...]:
        """The conditions in an order of their own, so that equal ones are equal."""
        return tuple(sorted(self.where.items())) if self.where else ()

    def over(self, other: Options) -> Options:
        """These and another's, which must not say the same thing twice.

        Raises:
            Problem: 422, they do.
        """
        given = {}
        for name in SEARCH_OPTIONS:
            mine, others = getattr(self, name), getattr(other, name)
            if mine is not None and others is not None:
                raise Problem(422, f"{name}: expected once, found in the body and in the query")
            given[name] = others if mine is None else mine
        return Options(**given)


@dataclasses.dataclass(frozen=True, slots=True)
class SearchRequest:
    """A search as it was asked for.

    Attributes:
        options: How to search.
        picture: The encoded query picture, or None where a document came.
        document: Names the query, unless it is a vector.
        vectors: float32[D] or float64[D] each, of any D and length.
    """

    options: Options
    picture: bytes | None = None
    document: SearchDocument | None = None
    vectors: Sequence[Vector] = ()


def parse_options(pairs: Iterable[tuple[str, str]], known: Sequence[str]) -> Options:
    """Options in their text forms, as a query string or a form has them.

    Args:
        pairs: Names and values.
        known: Names that may be given.

    Raises:
        Problem: 422, an unknown name, one given twice, or a value that makes no sense.
    """
    given: dict[str, str] = {}
    where: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise Problem(422, f"expected one of {', '.join(known)}, found {name[:40]!r}")
        if name == "where":
            attribute, equals, wanted = value.partition("=")
            if not (attribute and equals and len(value) <= MAX_TEXT):
                raise Problem(422, f"where: expected ATTRIBUTE=VALUE, found {value[:80]!r}")
            if attribute in where:
                raise Problem(422, f"where: expected every attribute once, found {attribute[:40]!r} twice")
            where[attribute] = wanted
        elif name in given:
            raise Problem(422, f"{name}: expected once, found twice")
        else:
            given[name] = value
    if given.get("group_by", "item") != "item":
        raise Problem(422, f"group_by: expected item, found {given['group_by'][:40]!r}")
    k = _whole_number("k", given["k"], 1, MAX_K) if "k" in given else None
    return Options(k, where or None, given.get("group_by"), _parse_crop(given.get("crop")))


def _whole_number(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 11 and least <= int(text) <= most):
        raise Problem(422, f"{name}: expected a whole number from {least} to {most}, found {text[:40]!r}")
    return int(text)


def _parse_crop(text: str | None) -> Box | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != len(_CROP_NAMES):
        raise Problem(422, f"crop: expected {','.join(_CROP_NAMES)} in pixels, found {text[:80]!r}")
    least = (0, 0, 1, 1)
    return Box(
        *(
            _whole_number(f"crop: {n}", p, low, (1 << 31) - 1)
            for n, p, low in zip(_CROP_NAMES, parts, least, strict=True)
        )
    )


def parse_size(pairs: Sequence[tuple[str, str]], sizes: Sequence[int]) -> int:
    """The parameter `size`, one of a few; the first where it is not given.

    Raises:
        Problem: 422.
    """
    if not pairs:
        return sizes[0]
    name, text = pairs[0]
    if len(pairs) > 1 or name != "size" or text not in map(str, sizes):
        raise Problem(422, f"expected size={'|'.join(map(str, sizes))}, found {name[:40]}={text[:40]}")
    return int(text)


async def parse_search(request: Request, media_type: str, body: bytes, forms: Forms) -> SearchRequest:
    """What a body and a query string ask for.

    Args:
        request: The request.
        media_type: Of its body, in lower case.
        body: The whole body.
        forms: Reads it where it is one.

    Raises:
        Problem: 400 or 422, it makes no sense; 503, too many forms wait.
    """
    from_query = parse_options(request.query_params.multi_items(), SEARCH_OPTIONS)
    if media_type == "application/json":
        document, vectors = parse_document(body)
        crop = Box(**document.crop.model_dump()) if document.crop else None
        options = Options(document.k, document.where or None, document.group_by, crop).over(from_query)
        return SearchRequest(options, document=document, vectors=vectors)
    if media_type != "multipart/form-data":
        return SearchRequest(from_query, picture=body)
    fields, picture = await forms.read(request.headers["content-type"], body)
    if picture is None:
        raise Problem(422, "expected the picture in a file field named image, found none")
    pairs = [(name, value) for name, values in fields.items() for value in values]
    return SearchRequest(parse_options(pairs, SEARCH_OPTIONS).over(from_query), picture=picture)


def parse_document(body: bytes) -> tuple[SearchDocument, list[Vector]]:
    """A JSON body, and its vectors apart: checking thousands of numbers one by one is half of what a search takes.

    Raises:
        Problem: 400, it is no JSON; 422, it says something unexpected.
    """
    for mark, most in _MOST_MARKS.items() if len(body) > _SMALL_BYTES else ():
        if (found := body.count(mark)) > most:
            raise Problem(422, f"expected at most {most:,} {mark.decode()} in a document, found {found:,}")
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"expected a JSON document, found {error}") from None
    if not isinstance(given, dict):
        raise Problem(422, f"expected a JSON object, found {type(given).__name__}")
    names = [name for name in QUERIES if given.get(name) is not None]
    if len(names) != 1:
        raise Problem(422, f"expected exactly one of {', '.join(QUERIES)}, found {', '.join(names) or 'none'}")
    vectors = [_vector(numbers, number) for number, numbers in enumerate(_take_vectors(given))]
    try:
        return SearchDocument.model_validate(given, strict=True), vectors
    except pydantic.ValidationError as error:
        raise _problem_of(error) from None


def _take_vectors(given: dict[str, Any]) -> list[Any]:
    one, several = given.pop("vector", None), given.pop("vectors", None)
    if one is not None:
        return [one]
    if several is None:
        return []
    if not isinstance(several, list) or not 0 < len(several) <= MAX_VECTORS:
        found = len(several) if isinstance(several, list) else type(several).__name__
        raise Problem(422, f"vectors: expected 1 to {MAX_VECTORS} vectors, found {found}")
    return several


def _vector(given: Any, number: int) -> Vector:
    """float32[D] or float64[D], as it came; whether an index has that many dimensions is not known here."""
    if isinstance(given, str):
        try:
            return np.frombuffer(base64.b64decode(given, validate=True), "<f4")
        except ValueError:
            raise Problem(422, f"vector {number}: expected base64 of little-endian float32, found other text") from None
    if not isinstance(given, list):
        raise Problem(422, f"vector {number}: expected a list of numbers or base64, found {type(given).__name__}")
    try:
        return np.frombuffer(array.array("d", given))
    except (TypeError, OverflowError):
        raise Problem(422, f"vector {number}: expected numbers only, found something else") from None


def _problem_of(error: pydantic.ValidationError) -> Problem:
    """The first thing that is wrong; the values themselves are not repeated, for they may be long."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part)[:40] for part in first["loc"][:4])
    return Problem(422, f"{place}: {first['msg']}" if place else first["msg"])

"""The API: what each path takes and answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from serving import metrics, openapi
from serving.options import MAX_DOCUMENT_BYTES
from serving.problem import Problem
from serving.responses import hit_documents, index_document, json_response
from serving.schemas import (
    AttributesAnswer,
    HealthAnswer,
    ImageAnswer,
    IndexAnswer,
    ReadyAnswer,
    ReloadAnswer,
    SearchAnswer,
    SimilarAnswer,
)
from serving.search_request import parse_options, parse_search, parse_size
from serving.service import Service
from serving.thumbnails import SIZES_PX
from serving.uploads import Upload

_BODIES = "application/json, multipart/form-data, image/* or application/octet-stream"
_THUMBNAIL_AGE_S = 300


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _check_key(request: Request) -> None:
    _service(request).keys.check(request.headers)


api = APIRouter(prefix="/v1", dependencies=[Depends(_check_key)])
operations = APIRouter()


@api.post(
    "/search",
    summary="What looks like this picture, vector or row?",
    response_model=SearchAnswer,
    responses=openapi.problems(400, 404, 413, 415, 422),
    openapi_extra=openapi.SEARCH,
)
async def search(request: Request) -> Response:
    """The picture comes as a raw body or in a form; vectors, ids of the index and URLs come as JSON."""
    return await answer_search(_service(request), request)


async def answer_search(service: Service, request: Request) -> Response:
    """The answer to `POST /v1/search`; who asks has been let in.

    Raises:
        Problem: 400 to 503, as `search` documents.
    """
    published = service.watcher.current
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    limit_bytes = service.options.max_upload_bytes
    if media_type != "application/json":
        if media_type not in ("multipart/form-data", "application/octet-stream") and media_type[:6] != "image/":
            raise Problem(415, f"Content-Type: expected {_BODIES}, found {media_type[:80] or 'none'}")
        service.pictures.check_room()
    else:
        limit_bytes = min(limit_bytes, MAX_DOCUMENT_BYTES)
        service.threads.check_room()
    with Upload(request, limit_bytes, service.uploads) as upload:
        asked = await parse_search(request, media_type, await upload.read(), service.forms)
        found, picture = await service.search(published, asked)
    queries: list[dict[str, Any]] = [{"hits": hit_documents(hits)} for hits in found]
    if picture is not None:
        queries[0]["picture"] = {"width": picture.width, "height": picture.height}
    return json_response({"version": published.version, "snapshot": published.snapshot, "queries": queries})


@api.get(
    "/items/{item_id:path}/similar",
    summary="Other items that look like this one",
    response_model=SimilarAnswer,
    responses=openapi.problems(404, 422),
    openapi_extra=openapi.SIMILAR,
)
async def similar(request: Request, item_id: Annotated[str, Path(examples=["sku-1042"])]) -> Response:
    """Neighbours of all its pictures, merged: each other item once, with its best picture."""
    service = _service(request)
    published = service.watcher.current
    options = parse_options(request.query_params.multi_items(), ("k", "where"))
    hits = await service.similar(published, item_id, options)
    document = {"version": published.version, "snapshot": published.snapshot, "item_id": item_id}
    return json_response({**document, "hits": hit_documents(hits)})


@api.get(
    "/images/{image_id:path}/thumbnail",
    summary="A small picture of a row",
    response_class=Response,
    responses={
        200: {
            "content": {"image/jpeg": {}},
            "description": "Its sides keep their ratio; Picture-Width and Picture-Height are the original's",
        },
        304: {"description": "As it was"},
        **openapi.problems(404, 422),
    },
    openapi_extra=openapi.THUMBNAIL,
)
async def thumbnail(request: Request, image_id: Annotated[str, Path(examples=["0a1b2c3d4e5f60718293"])]) -> Response:
    """The one that was stored when the row was embedded, or made from the catalog's own picture if it is still that."""
    service = _service(request)
    published = service.watcher.current
    size_px = parse_size(request.query_params.multi_items(), SIZES_PX)
    row = await service.find_row(published, image_id)
    made = await service.thumbnails.get(published, row, size_px)
    headers = {
        "Cache-Control": f"private, max-age={_THUMBNAIL_AGE_S}",
        "ETag": made.etag,
        "Picture-Width": str(made.width),
        "Picture-Height": str(made.height),
    }
    if request.headers.get("if-none-match") == made.etag:
        return Response(status_code=304, headers=headers)
    return Response(made.jpeg, media_type="image/jpeg", headers=headers)


@api.get(
    "/images/{image_id:path}",
    summary="A picture of the index",
    response_model=ImageAnswer,
    responses=openapi.problems(404, 422),
)
async def image(request: Request, image_id: Annotated[str, Path(examples=["0a1b2c3d4e5f60718293"])]) -> Response:
    """What the catalog says of it."""
    service = _service(request)
    published = service.watcher.current
    hit = await service.find_row(published, image_id)
    return json_response(
        {
            "version": published.version,
            "image_id": hit.image_id,
            "item_id": hit.item_id,
            "image_uri": hit.image_uri,
            "attributes": hit.attributes,
        }
    )


@api.get("/index", summary="The version that is served", response_model=IndexAnswer, responses=openapi.problems())
async def index(request: Request) -> Response:
    """What it was made with, how good it is, what may be asked of it."""
    service = _service(request)
    takes_urls = service.sources.fetch_url is not None
    return json_response(index_document(service.watcher.current, service.options, takes_urls))


@api.get(
    "/attributes",
    summary="What answers can be filtered by",
    response_model=AttributesAnswer,
    responses=openapi.problems(),
)
async def attributes(request: Request) -> Response:
    """Every attribute with its most frequent values."""
    published = _service(request).watcher.current
    return json_response({"version": published.version, "attributes": published.attributes})


@api.post("/reload", summary="Look at CURRENT now", response_model=ReloadAnswer, responses=openapi.problems(409))
async def reload(request: Request) -> Response:
    """For who publishes and does not want to wait; answers once the next version is served or refused."""
    service = _service(request)
    changed = await service.reload()
    refused = service.watcher.refused
    if refused is not None:
        raise Problem(409, f"version {refused.version or '?'} was refused: {refused.reason}")
    return json_response({"version": service.watcher.current.version, "changed": changed})


@operations.get("/healthz", summary="Is the process there?", response_model=HealthAnswer)
async def healthz() -> Response:
    """For a liveness probe."""
    return json_response({"status": "ok"})


@operations.get("/readyz", summary="Are requests answered, and from which version?", response_model=ReadyAnswer)
async def readyz(request: Request) -> Response:
    """For a readiness probe. A version that was refused does not make the server unready: the one before goes on."""
    watcher = _service(request).watcher
    refused = watcher.refused
    told = None if refused is None else {"version": refused.version, "reason": refused.reason}
    return json_response({"status": "ready", "version": watcher.current.version, "refused": told})


@operations.get(
    "/metrics",
    summary="For Prometheus",
    dependencies=[Depends(_check_key)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **openapi.problems()},
)
def read_metrics() -> Response:
    """Text format."""
    return Response(metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})

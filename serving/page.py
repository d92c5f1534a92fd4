"""The web page: a few files, read once."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path

from fastapi import APIRouter, Request, Response

_FOLDER = Path(__file__).parent / "page"


def page_routes() -> APIRouter:
    """`/` and the files beside it. What is sent was read at the start: no path of a request reaches the disk."""
    router = APIRouter(include_in_schema=False)
    for path in sorted(_FOLDER.iterdir()):
        if path.suffix in (".html", ".js", ".css"):
            _add(router, "/" if path.name == "index.html" else f"/{path.name}", path)
    return router


def _add(router: APIRouter, route: str, path: Path) -> None:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    media_type = "text/javascript" if path.suffix == ".js" else mimetypes.types_map[path.suffix]
    headers = {"ETag": etag, "Cache-Control": "no-cache"}

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    router.add_api_route(route, send, methods=["GET", "HEAD"], response_class=Response)

"""The application: routes, errors, and what starts and stops with it."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import openapi
from serving.access import Access
from serving.logs import LOG
from serving.page import page_routes
from serving.problem import Problem, failure
from serving.routes import answer_search, api, operations
from serving.schemas import ProblemDocument, SearchDocument
from serving.service import Service
from store.release import VERSION

_SEARCH = "/v1/search"


def create_app(service: Service, url: str = "") -> ASGIApp:
    """The application over a service, which it closes when it is shut down.

    Args:
        service: With the first version open.
        url: Where it will be found; for the log.
    """
    app = FastAPI(
        title="Shelfmark",
        version=VERSION,
        description=openapi.DESCRIPTION,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=functools.partial(_live, service, url),
        redirect_slashes=False,
        strict_content_type=False,
    )
    app.state.service = service
    app.include_router(api)
    app.include_router(operations)
    app.include_router(page_routes())
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_failure)
    _describe(app, bool(service.options.api_keys))
    served: ASGIApp = Access(_Shortcut(service, app), service.options.timeout_s)
    if service.options.cors_origins:  # around everything, so that errors can be read from there, too
        served = CORSMiddleware(
            served,
            allow_origins=service.options.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-Id"],
            expose_headers=["Picture-Width", "Picture-Height", "Retry-After", "X-Request-Id"],
        )
    return served


@contextlib.asynccontextmanager
async def _live(service: Service, url: str, _: FastAPI) -> AsyncIterator[None]:
    # The model's and the libraries' million objects are here to stay: a collector that looks through them holds every
    # request up for a third of a second.
    gc.collect()
    gc.freeze()
    service.watcher.start()
    LOG.info("listening", extra={"url": url, "pid": os.getpid()})
    yield
    service.close()


class _Shortcut:
    """Leads searches past the framework's layers, which cost as much as half a search; all else goes through them.

    The route is registered there as well, and does the same.
    """

    def __init__(self, service: Service, app: FastAPI) -> None:
        self._service = service
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if not (scope["type"] == "http" and scope["path"] == _SEARCH and scope["method"] == "POST"):
            await self._app(scope, receive, send)
            return
        scope["app"], scope["route"] = self._app, _SearchRoute
        request = Request(scope, receive)
        try:
            self._service.keys.check(request.headers)
            response = await answer_search(self._service, request)
        except Problem as problem:
            response = problem.response(scope["state"]["request_id"])
        await response(scope, receive, send)


class _SearchRoute:
    path_format = _SEARCH


def _describe(app: FastAPI, needs_key: bool) -> None:
    """Adds to the OpenAPI document what no route refers to by type."""
    document = app.openapi()
    schemas = document["components"]["schemas"]
    for model in (ProblemDocument, SearchDocument):
        described = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(described.pop("$defs", {}))
        schemas[model.__name__] = described
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    if needs_key:
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        for path, methods in document["paths"].items():
            for operation in methods.values():
                if path.startswith("/v1/") or path == "/metrics":
                    operation["security"] = [{"bearer": []}, {"key": []}]


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request.scope["state"]["request_id"])


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part)[:40] for part in first["loc"])
    return Problem(422, f"{place}: {first['msg']}").response(request.scope["state"]["request_id"])


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path[:80]}: {error.detail}; GET /openapi.json has what there is"
    problem = Problem(error.status_code, detail, dict(error.headers or {}))
    return problem.response(request.scope["state"]["request_id"])


async def _answer_failure(request: Request, error: Exception) -> Response:
    return failure(error).response(request.scope["state"]["request_id"])

"""Stores that faults are set against, and the courses of acts where nothing fails."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import pytest

from store import filesystem, objects
from tests.support import gcs_server as gcs
from tests.support import s3_server as s3
from tests.support.places import NewPlace, gcs_places, s3_places
from tests.support.proxy import StepProxy
from tests.support.s3_server import ServerProcess
from tests.support.store_acts import Course, course_of


@pytest.fixture(scope="session")
def course(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Course]:
    """An act's course by its name, taken once."""
    return functools.cache(lambda name: course_of(name, tmp_path_factory.mktemp("course") / "store"))


@dataclasses.dataclass(frozen=True, slots=True)
class Remote:
    """An object store behind a proxy.

    Attributes:
        proxy: What faulty processes talk to.
        environment: How they find it.
        new_place: Makes a store on the server behind it.
    """

    proxy: StepProxy
    environment: dict[str, str]
    new_place: NewPlace


@pytest.fixture(params=[pytest.param("s3", marks=pytest.mark.s3), pytest.param("gcs", marks=pytest.mark.gcs)])
def remote(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """Both kinds of object store; this process finds the server itself, past the proxy."""
    server: ServerProcess = request.getfixturevalue(f"{request.param}_server")
    environment = s3.s3_environment if request.param == "s3" else gcs.gcs_environment
    for name, value in environment(server.url).items():
        monkeypatch.setenv(name, value)
    forget_clients()
    new_place = s3_places(server.url) if request.param == "s3" else gcs_places(server.url)
    with StepProxy(server.port) as proxy:
        yield Remote(proxy, environment(proxy.url), new_place)
    forget_clients()


def forget_clients() -> None:
    """Has the store's clients made anew, for another server or other settings."""
    for made in (objects._s3_client, objects._gcs_client, filesystem._open_s3, filesystem._open_gcs):
        made.cache_clear()

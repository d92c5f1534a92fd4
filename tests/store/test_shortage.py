"""Whose fault it is: this process's, however deep the exception was wrapped, or the picture's."""

from __future__ import annotations

import errno
import pickle
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from urllib3 import exceptions as http_errors

from store.errors import StoreError
from store.location import as_store_error
from store.rejects import Reason, Rejected
from store.shortage import Lack, ShortageError, is_short, refuse_if_short, shortage_of

ROOT = Path(__file__).resolve().parent.parent.parent


def os_error(number: int) -> OSError:
    return OSError(number, "words")


def raised_from(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def by_path(error: Exception) -> Exception:
    """As Beam's file systems wrap what a client raised."""
    wrapped = Exception("Create operation failed")
    wrapped.exception_details = {"gs://b/o": error}  # type: ignore[attr-defined]
    return wrapped


OWN = [
    (os_error(errno.EMFILE), Lack.DESCRIPTORS),
    (os_error(errno.ENFILE), Lack.DESCRIPTORS),
    (os_error(errno.ENOMEM), Lack.MEMORY),
    (MemoryError(), Lack.MEMORY),
    (os_error(errno.ENOSPC), Lack.DISK),
    (os_error(errno.EDQUOT), Lack.DISK),
    (RuntimeError("can't start new thread"), Lack.THREADS),
    (socket.gaierror(socket.EAI_MEMORY, "words"), Lack.MEMORY),
]
OTHERS = [
    os_error(errno.ENOENT),
    os_error(errno.ECONNREFUSED),
    os_error(errno.EIO),
    OSError("no number at all"),
    socket.gaierror(socket.EAI_NONAME, "words"),
    socket.gaierror(errno.EMFILE, "a number of the resolver's own"),
    RuntimeError("cannot schedule new futures after shutdown"),
    ValueError("Too many open files"),
]


@pytest.mark.parametrize(("error", "lack"), OWN, ids=repr)
def test_a_shortage_is_found_however_it_is_wrapped(error, lack):
    connection = http_errors.NewConnectionError(None, "no connection")  # type: ignore[arg-type]
    for wrapped in (
        error,
        raised_from(connection, error),
        http_errors.ProtocolError("Connection aborted.", error),
        by_path(error),
        raised_from(Rejected(Reason.FETCH_ERROR, "x"), raised_from(ValueError("x"), by_path(error))),
        ShortageError.of(lack),
    ):
        found = shortage_of(wrapped)
        assert found is not None
        assert found.lack is lack


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_what_is_no_shortage_stays_what_it_is(error):
    assert shortage_of(error) is None
    assert shortage_of(raised_from(Rejected(Reason.FETCH_ERROR, "x"), error)) is None


def test_a_chain_that_bites_its_tail_ends():
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__context__ = two, one
    assert shortage_of(one) is None


def test_a_full_store_says_so_itself():
    with pytest.raises(StoreError, match="choose another --store") as caught, as_store_error("write", "x"):
        raise os_error(errno.ENOSPC)
    assert shortage_of(caught.value) is None
    assert shortage_of(ValueError("x", caught.value)) is None


@pytest.mark.parametrize("lack", Lack)
def test_the_words_say_what_to_do_and_travel(lack):
    error = pickle.loads(pickle.dumps(ShortageError.of(lack)))
    assert error.lack is lack
    words = {Lack.DESCRIPTORS: "ulimit -n", Lack.MEMORY: "memory", Lack.DISK: "TMPDIR", Lack.THREADS: "ulimit -u"}
    assert words[lack] in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("lack", Lack)
def test_there_is_enough_here(lack):
    assert not is_short(lack)
    refuse_if_short(lack)


LIMITED = """
import os, resource, sys, tempfile
from store.shortage import Lack, is_short
if sys.argv[1] == "descriptors":
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    held = []
    while not is_short(Lack.DESCRIPTORS):
        held.append(os.open(os.devnull, os.O_RDONLY))
    assert held
    while held:
        os.close(held.pop())
    assert not is_short(Lack.DESCRIPTORS)
elif sys.argv[1] == "memory":
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), -1))
    assert is_short(Lack.MEMORY)
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    assert is_short(Lack.DISK)
"""


@pytest.mark.parametrize("lack", ["descriptors", "memory", "disk"])
def test_a_real_shortage_is_seen(lack, tmp_path):
    code = LIMITED.replace("resource, sys", "resource, signal, sys").replace(
        "from store", "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nfrom store", 1
    )
    done = subprocess.run([sys.executable, "-c", code, lack], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 16

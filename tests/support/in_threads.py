"""Work done in several threads at once, whose failures are the test's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Runs `work` in threads and raises what the first of them raised."""
    errors: queue.Queue[BaseException] = queue.Queue()

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.put(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not errors.empty():
        raise errors.get()

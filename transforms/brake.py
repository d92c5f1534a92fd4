"""How many pictures a step may have in hand: fewer when this process runs short, more again when it does not."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from store.rejects import Reason, Rejected
from store.shortage import ShortageError, is_short, shortage_of

T = TypeVar("T")

_LOG = logging.getLogger("shelfmark")

_ATTEMPTS = 8
_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0
"""While the shortage lasts; some 24 seconds in all."""
_SHORT_PAUSE_S, _LONGEST_SHORT_PAUSE_S = 0.02, 0.5
"""When it is over already: a picture that asks for too much must not hold up the others."""


class Brake:
    """Runs a step, and slows it down where the process has run out of descriptors, memory, disk or threads.

    A step that ran short is tried again, after a pause and with half as many beside it. Where the shortage lasts, the
    run ends: a picture is never rejected for it. Where there is enough and one picture alone still finds too little, it
    is that picture which asks for too much, and it is a passing reject. Each round of successes lets one more in.

    Thread-safe.
    """

    def __init__(
        self,
        step: str,
        most: int,
        reason: Reason,
        pause: Callable[[float], object],
        *,
        is_short: Callable[..., bool] = is_short,
    ) -> None:
        """Takes the step's name and limits.

        Args:
            step: What is done, such as "fetches".
            most: At once.
            reason: What a picture that asks for too much is rejected for.
            pause: Waits that many seconds, or less.
            is_short: Whether a shortage lasts.
        """
        self._step = step
        self._most = most
        self._reason = reason
        self._pause = pause
        self._is_short = is_short
        self._changed = threading.Condition()
        self._allowed = most
        self._inside = 0
        self._good = 0
        self._least_told = most

    @property
    def allowed(self) -> int:
        """How many may be in the step now."""
        return self._allowed

    def run(self, action: Callable[[], T]) -> T:
        """The action's result.

        Raises:
            ShortageError: The process ran short, and still does.
            Rejected: The action's own; or passing, where it alone runs short.
        """
        attempt = 0
        while True:
            try:
                with self._seat():
                    found = action()
            except Exception as error:
                shortage = shortage_of(error)
                if shortage is None:
                    raise
            else:
                self._speed_up()
                return found
            attempt += 1
            lasts = self._is_short(shortage.lack)
            if attempt == _ATTEMPTS and lasts:
                raise shortage
            if attempt == _ATTEMPTS:
                raise self._asks_for_too_much(shortage) from shortage
            self._slow_down(shortage, lasts)
            first_s, longest_s = (_PAUSE_S, _LONGEST_PAUSE_S) if lasts else (_SHORT_PAUSE_S, _LONGEST_SHORT_PAUSE_S)
            self._pause(min(longest_s, first_s * 2.0 ** (attempt - 1)))

    def _asks_for_too_much(self, shortage: ShortageError) -> Rejected:
        what = shortage.lack.value
        detail = f"expected a picture that needs no more {what} than there is, found too little in {_ATTEMPTS} attempts"
        return Rejected(self._reason, detail, passing=True)

    @contextlib.contextmanager
    def _seat(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._inside < self._allowed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def _slow_down(self, shortage: ShortageError, lasts: bool) -> None:
        with self._changed:
            self._good, self._allowed = 0, max(1, self._allowed // 2)
            is_news = lasts and self._allowed < self._least_told
            self._least_told = self._allowed if is_news else self._least_told
        if is_news:
            _LOG.warning(f"{shortage}; going on with {self._least_told} {self._step} at once")

    def _speed_up(self) -> None:
        if self._allowed == self._most:
            return
        with self._changed:
            self._good += 1
            if self._good >= self._allowed:
                self._good, self._allowed = 0, min(self._most, self._allowed + 1)
                self._changed.notify_all()

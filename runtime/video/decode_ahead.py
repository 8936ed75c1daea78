"""Decoding ahead: a generator works in a thread of its own while the network works in the main one."""

from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")

_PATIENCE = 0.1  # seconds until a wait looks whether it is still wanted


@dataclass(frozen=True)
class _End:
    """The generator's end; `error` is what it raised, None where it came to its end."""

    error: BaseException | None


class Ahead(Generic[Item]):
    """Runs `source` up to `size` items early; with `newest`, an unfetched item gives way to the next."""

    def __init__(self, source: Generator[Item, None, None], size: int, *, newest: bool) -> None:
        self._source, self._newest = source, newest
        self._queue: Queue[Item | _End] = Queue(1 if newest else size)
        self._stop = Event()
        self._end: _End | None = None
        self._thread = Thread(target=self._work, name="decode", daemon=True)
        self._thread.start()

    def next(self) -> Item:
        """The next item; StopIteration at the end; what the generator raised, raised here."""
        item: Item | _End | None = self._end
        while item is None:
            try:
                item = self._queue.get(timeout=_PATIENCE)
            except Empty:
                if self._stop.is_set():
                    item = _End(None)
        if not isinstance(item, _End):
            return item
        self._end = item
        raise item.error or StopIteration()

    def stop(self) -> None:
        """Ask the thread to end, without waiting for it: a `next` that waits ends too."""
        self._stop.set()

    def close(self) -> None:
        """Stop the thread. One that waits for a silent stream cannot be stopped: it ends with the process."""
        self.stop()
        self._thread.join(timeout=1.0)
        self._end = self._end or _End(None)

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._source:
                if not self._put(item):
                    break
        except BaseException as raised:  # it belongs to the thread that iterates
            error = raised
        self._source.close()
        self._put(_End(error))

    def _put(self, item: Item | _End) -> bool:
        """Queue `item` as soon as there is room; False where nobody wants it any more."""
        while not self._stop.is_set():
            if self._newest and self._queue.full():
                with suppress(Empty):
                    self._queue.get_nowait()
            with suppress(Full):
                self._queue.put(item, timeout=_PATIENCE)
                return True
        return False

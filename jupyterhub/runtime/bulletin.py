"""Moves of a server told to whoever waits: pages with live progress, requests that wait for a start."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

#: A start that reports more than this keeps the newest; the page shows a tail anyway.
MAX_EVENTS = 500


class Board:
    """The events of one start, in order, readable by any number of listeners from the beginning."""

    def __init__(self) -> None:
        self._events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=MAX_EVENTS)
        self._next = 0
        self._closed = False
        self._news = asyncio.Event()

    def post(self, event: dict[str, Any]) -> None:
        """Add an event. Posting to a closed board does nothing: the start is over."""
        if self._closed:
            return
        self._events.append((self._next, event))
        self._next += 1
        self._wake()

    def close(self) -> None:
        """No more events will come; listeners end after the last one."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        """Yield all events from the first that is still kept, then new ones until the board is closed."""
        position = 0
        while True:
            news = self._news
            pending = [(number, event) for number, event in self._events if number >= position]
            for number, event in pending:
                position = number + 1
                yield event
            if pending:
                continue
            if self._closed:
                return
            await news.wait()


class Bulletin:
    """Boards by server row id. A board lives as long as its start, plus until the next one begins."""

    def __init__(self) -> None:
        self._boards: dict[int, Board] = {}

    def open(self, spawner_id: int) -> Board:
        """Start a new board for a server; an older one is closed."""
        self.drop(spawner_id)
        board = self._boards[spawner_id] = Board()
        return board

    def board(self, spawner_id: int) -> Board | None:
        return self._boards.get(spawner_id)

    def drop(self, spawner_id: int) -> None:
        board = self._boards.pop(spawner_id, None)
        if board is not None:
            board.close()

"""Reports of activity, coalesced in memory and written in batches (config §13)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from ..core.activity import is_newer
from ..store import tokens as token_store
from ..store import users as user_store

if TYPE_CHECKING:
    from .context import HubContext


class ActivityBook:
    """Latest known times per user, server and token, waiting to be written.

    One request costs a dictionary update; the database sees one transaction per flush, whatever the number of
    reports. What was not flushed when the process is killed is seconds of activity, nothing else.
    """

    def __init__(self, context: HubContext) -> None:
        self._context = context
        self._users: dict[int, datetime] = {}
        self._servers: dict[int, datetime] = {}
        self._tokens: dict[int, datetime] = {}

    def note_user(self, user_id: int, when: datetime) -> None:
        """Remember that the user was active at `when` (aware UTC)."""
        self._keep_later(self._users, user_id, when)

    def note_server(self, spawner_id: int, when: datetime) -> None:
        """Remember that the server with this row id was active at `when` (aware UTC)."""
        self._keep_later(self._servers, spawner_id, when)

    def note_token(self, token_id: int, when: datetime) -> None:
        """Remember that the token with this row id was used at `when` (aware UTC)."""
        self._keep_later(self._tokens, token_id, when)

    def latest_of_user(self, user_id: int) -> datetime | None:
        """Return the time that waits to be written for the user, if any."""
        return self._users.get(user_id)

    def latest_of_server(self, spawner_id: int) -> datetime | None:
        """Return the time that waits to be written for the server, if any."""
        return self._servers.get(spawner_id)

    @staticmethod
    def _keep_later(book: dict[int, datetime], key: int, when: datetime) -> None:
        known = book.get(key)
        if known is None or known < when:
            book[key] = when

    async def flush(self) -> None:
        """Write everything noted so far in one transaction. Times in the database only move forward.

        If the write fails the notes are kept for the next flush and the error is raised.
        """
        users, self._users = self._users, {}
        servers, self._servers = self._servers, {}
        tokens, self._tokens = self._tokens, {}
        if not (users or servers or tokens):
            return
        try:
            await self._context.database.run(_write, users, servers, tokens)
        except BaseException:
            for book, lost in ((self._users, users), (self._servers, servers), (self._tokens, tokens)):
                for key, when in lost.items():
                    self._keep_later(book, key, when)
            raise
        self._remember_written(users)

    def _remember_written(self, users: dict[int, datetime]) -> None:
        """Let the wrappers in memory say what the database says now; nobody else tells them."""
        for user_id, when in users.items():
            user = self._context.users.cached(user_id)
            if user is not None and user.record is not None and is_newer(when, user.record.last_activity):
                user.record = replace(user.record, last_activity=when)


def _write(
    session: object, users: dict[int, datetime], servers: dict[int, datetime], tokens: dict[int, datetime]
) -> None:
    user_store.touch_activity(session, users, servers)  # type: ignore[arg-type]
    token_store.touch_activity(session, tokens)  # type: ignore[arg-type]

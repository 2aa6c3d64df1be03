"""Authenticators that ask somebody else: what is asked how often, and what people read when there is no answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tornado import web

from jupyterhub.auth import Authenticator

from .fakes import Browser, text_of
from .live_hub import LiveHub

MESSAGE = "Your log-in could not be checked, for a reason that is not your name or password."


class AsksSomebody(Authenticator):
    """Says yes, or raises `problem`; counts how many refreshes there were, and how many at a time."""

    problem: Exception | None = None
    refreshes = running = most = 0
    wait: asyncio.Event

    async def authenticate(self, handler: Any, data: Any) -> Any:
        if self.problem is not None:
            raise self.problem
        return {"name": data["username"]}

    async def refresh_user(self, user: Any, handler: Any = None) -> bool:
        self.refreshes += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.wait.wait()
        finally:
            self.running -= 1
        if self.problem is not None:
            raise self.problem
        return True


pytestmark = pytest.mark.parametrize("live", [{"authenticator_class": AsksSomebody}], indirect=True)


def asked(live: LiveHub) -> AsksSomebody:
    authenticator: AsksSomebody = live.app.authenticator
    authenticator.wait = asyncio.Event()
    return authenticator


async def make_stale(live: LiveHub, name: str) -> None:
    (await live.user(name))._auth_refreshed = None


async def test_requests_at_once_refresh_once(live: LiveHub) -> None:
    authenticator, ada = asked(live), await live.browser("ada")
    await make_stale(live, "ada")
    requests = [asyncio.ensure_future(ada.copy().get("/hub/home")) for _ in range(5)]
    while not authenticator.refreshes:
        await asyncio.sleep(0)
    # The others have had their turn as well when a request that was sent after them is answered.
    await live.call("GET", "/")
    authenticator.wait.set()
    assert [(await answer).code for answer in requests] == [200] * 5
    assert (authenticator.refreshes, authenticator.most) == (1, 1)


async def test_a_refresh_that_finds_nobody_is_told_and_tried_again(live: LiveHub) -> None:
    authenticator, ada = asked(live), await live.browser("ada")
    authenticator.wait.set()
    await make_stale(live, "ada")
    authenticator.problem = ConnectionRefusedError("nobody there")
    answer = await ada.get("/hub/home")
    assert answer.code == 500 and MESSAGE in text_of(answer) and "nobody there" not in text_of(answer)
    authenticator.problem = None
    assert (await ada.get("/hub/home")).code == 200


async def test_a_log_in_that_finds_nobody_is_told_in_the_form(live: LiveHub) -> None:
    asked(live).problem = OSError("no route to the directory")
    answer = await Browser(live.url).log_in("ada")
    assert answer.code == 500 and MESSAGE in text_of(answer) and 'name="password"' in text_of(answer)
    assert "directory" not in text_of(answer)


def refusal_with_words() -> Exception:
    error = Exception("for the log")
    error.jupyterhub_message = "Your account is locked."  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("problem", "status"),
    [(web.HTTPError(403, "Your account is locked."), 403), (refusal_with_words(), 500)],
    ids=["HTTPError", "jupyterhub_message"],
)
async def test_what_an_authenticator_says_itself_is_shown(live: LiveHub, problem: Exception, status: int) -> None:
    asked(live).problem = problem
    answer = await Browser(live.url).log_in("ada")
    assert answer.code == status and "Your account is locked." in text_of(answer) and MESSAGE not in text_of(answer)

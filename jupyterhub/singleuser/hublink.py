"""What a user's server tells its Hub: at the start that it speaks its language, later when it was last
used.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import datetime

from .._version import INTERFACE_VERSION, _check_version
from ..core.clock import aware, isoformat
from ..services._hubclient import HubUnreachable
from ..services._identity import HubAuth

__all__ = ["HubLink", "HubNotFound"]

#: Pauses after each attempt to reach the Hub at the start, in seconds (cli §2.5).
START_PAUSES = (2.0, 4.0, 8.0, 16.0, 16.0)
#: Report of activity: first and longest pause between attempts, and when to give up (cli §2.9), in seconds.
FIRST_PAUSE, LONGEST_PAUSE, GIVE_UP_AFTER = 1.0, 15.0, 60.0


class HubNotFound(ConnectionError):
    """The Hub did not answer while this server was starting."""


class HubLink:
    """The connection of one server to its Hub.

    `last_activity` tells when the server was last used, or None. `interval` is in seconds; 0, or an empty
    `activity_url`, means no reports. `sleep` waits; tests pass one that does not.
    """

    def __init__(
        self,
        hub_auth: HubAuth,
        log: logging.Logger,
        *,
        server_name: str = "",
        activity_url: str = "",
        interval: float = 300,
        last_activity: Callable[[], datetime | None] = lambda: None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.hub_auth = hub_auth
        self.log = log
        self.server_name = server_name
        self.activity_url = activity_url
        self.interval = interval
        self.last_activity = last_activity
        self._sleep = sleep
        self._last_sent: datetime | None = None
        self._task: asyncio.Task[None] | None = None

    # -- at the start ----------------------------------------------------------------------------------------

    async def check_version(self) -> str | None:
        """Compare versions with the Hub; return the Hub's, or None if it did not say.

        A difference is only logged. Raises HubNotFound after five attempts without an answer, 46 s.
        """
        url = self.hub_auth.api_url
        for attempt, pause in enumerate(START_PAUSES, 1):
            try:
                # Nothing secret is asked for, so the token stays here.
                response = await self.hub_auth.fetch("GET", url, headers={"Authorization": ""})
                if response.code < 500:
                    version: str | None = response.headers.get("X-JupyterHub-Version")
                    _check_version(version, INTERFACE_VERSION, self.log)
                    return version
                problem = f"status {response.code}"
            except HubUnreachable as error:
                problem = str(error)
            self.log.error("No Hub at %s (attempt %i of %i): %s", url, attempt, len(START_PAUSES), problem)
            await self._sleep(pause)
        raise HubNotFound(f"No Hub answers at {url}. Can the Hub's hub_connect_url be reached from here?")

    # -- activity --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to report activity. To be called in a running event loop; `stop` ends it."""
        if not self.activity_url or self.interval <= 0:
            self.log.warning("Activity is not reported to the Hub: no URL or no interval is set")
            return
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._report_forever())

    async def stop(self) -> None:
        """End the reports."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=5)

    async def _report_forever(self) -> None:
        while True:
            try:
                await self.report()
            except Exception:
                # A mistake in one report must not end all later ones: an idle-culler would end the server.
                self.log.exception("Could not report activity to the Hub")
            # Servers that were started together must not report together for ever.
            await self._sleep(self.interval * random.uniform(0.9, 1.1))

    async def report(self) -> bool:
        """Tell the Hub when this server was last used; return whether the Hub has taken note."""
        moment = self.last_activity()
        if moment is None:
            return False
        moment = aware(moment)
        if self._last_sent is not None and moment < self._last_sent:
            self.log.debug("No activity since %s", isoformat(moment))
            return False
        text = isoformat(moment)
        body = {"servers": {self.server_name: {"last_activity": text}}, "last_activity": text}
        waited, pause = 0.0, FIRST_PAUSE
        while True:
            try:
                response = await self.hub_auth.fetch("POST", self.activity_url, json=body)
            except HubUnreachable as error:
                problem = str(error)
            else:
                if response.code < 300:
                    self._last_sent = moment
                    return True
                problem = f"status {response.code}"
                if response.code < 500 and response.code != 429:
                    # The Hub has understood and refuses; the same again would be refused again.
                    self.log.error("The Hub refuses a report of activity: %s", problem)
                    return False
            if waited + pause > GIVE_UP_AFTER:
                self.log.error("The Hub does not take a report of activity: %s", problem)
                return False
            self.log.info("Report of activity failed (%s), again in %.0f s", problem, pause)
            await self._sleep(pause)
            waited += pause
            pause = min(pause * 2, LONGEST_PAUSE)

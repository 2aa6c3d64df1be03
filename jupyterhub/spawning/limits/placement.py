"""Hold a new process before it becomes the server until it has been put where it belongs."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType

__all__ = ["Placement"]


class Placement:
    """Around the making of one process: `hold` is called in the child, `place` meanwhile on a thread of the parent.

    The thread that makes the process waits for its exec, so another one has to do the placing. A child whose parent
    dies in between ends too, because it is never told to go on.
    """

    def __init__(self, place: Callable[[int], None]) -> None:
        self._place = place

    def __enter__(self) -> Placement:
        self._ours, self._childs = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="placing a server's process", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._childs.close()
        self._thread.join()
        self._ours.close()

    def hold(self) -> None:
        """Wait in the child until it is placed. Raises RuntimeError with the reason when it cannot be."""
        self._ours.close()
        self._childs.sendall(str(os.getpid()).encode())
        answer = self._childs.recv(2000).decode("utf8", "replace")
        self._childs.close()
        if answer != "go":
            raise RuntimeError(answer or "the Hub ended")

    def _serve(self) -> None:
        asked = self._ours.recv(32)
        if not asked:
            # The child failed before it got here, or could not be made.
            return
        try:
            self._place(int(asked))
            answer = "go"
        except Exception as error:
            answer = f"its limits could not be set: {error}"
        try:
            self._ours.sendall(answer.encode()[:2000])
        except OSError:
            # The child is gone; whoever made it hears of that.
            pass

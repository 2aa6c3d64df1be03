"""A tiny server that can be asked to take all it can get: `<prefix>memory`, `child-memory`, `forks`, `cpu`.

Each answers at once; what was asked for happens meanwhile.
"""

import os
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer
from urllib.parse import urlparse

sys.path.insert(0, os.path.dirname(__file__))
from tiny_server import Handler

MEMORY = "x = []\nwhile 1: x.append(b'1' * (1 << 20))"
FORKS = "import os, time\nwhile 1:\n    try: os.fork()\n    except OSError: time.sleep(0.001)"


def in_child(code: str) -> None:
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


def take_memory() -> None:
    exec(MEMORY)


class GreedyHandler(Handler):
    def do_GET(self) -> None:
        super().do_GET()
        what = self.path.rstrip("/").rsplit("/", 1)[-1]
        if what == "memory":
            threading.Thread(target=take_memory, daemon=True).start()
        elif what == "child-memory":
            in_child(MEMORY)
        elif what == "forks":
            in_child(FORKS)
        elif what == "cpu":
            for _ in range(4):
                in_child("while 1: pass")


if __name__ == "__main__":
    url = urlparse(os.environ["JUPYTERHUB_SERVICE_URL"])
    ThreadingHTTPServer((url.hostname or "127.0.0.1", url.port or 0), GreedyHandler).serve_forever()

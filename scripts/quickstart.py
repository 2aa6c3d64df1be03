"""Start a Hub to try out, and say where it is and how to log in. Used by `make run`."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STARTUP_TIMEOUT = 60.0


def choose_port(first: int, taken: Collection[int] = (), tries: int = 50) -> int:
    """Return the first port from `first` on that nobody listens on and that is not one of those `taken`."""
    for port in range(first, first + tries):
        if port in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    sys.exit(f"No free port between {first} and {first + tries - 1}; give one with PORT=12345 make run")


def choose_ports(wanted: str) -> tuple[int, int, int]:
    """Return the ports of the pages, of the Hub and of the proxy's REST API; `wanted` is that of the pages, or empty."""
    if wanted and not (wanted.isdecimal() and 0 < int(wanted) < 65536):
        sys.exit(f"PORT has to be a number from 1 to 65535, not {wanted!r}: PORT=12345 make run")
    port = int(wanted) if wanted else choose_port(8000)
    hub_port = choose_port(8081, taken={port})
    return port, hub_port, choose_port(port + 1 if 8000 < port < 65000 else 8001, taken={port, hub_port})


def wait_for_page(url: str, hub: subprocess.Popen[bytes]) -> bool:
    """Wait until the log-in page answers. Returns False when the Hub ended or the deadline passed."""
    deadline = time.monotonic() + STARTUP_TIMEOUT
    while time.monotonic() < deadline and hub.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False


def stop_on(number: int, frame: object) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    began = time.monotonic()
    # Also for `kill`, and where whoever started us has told us to ignore Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop_on)
    directory = Path(os.environ.get("QUICKSTART_DIR", ROOT / ".run"))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    port, hub_port, api_port = choose_ports(os.environ.get("PORT", ""))
    url = f"http://127.0.0.1:{port}"
    password = secrets.token_urlsafe(12)
    environment = dict(
        os.environ,
        QUICKSTART_DIR=str(directory),
        QUICKSTART_URL=url,
        QUICKSTART_PASSWORD=password,
        QUICKSTART_HUB_PORT=str(hub_port),
        QUICKSTART_PROXY_API_PORT=str(api_port),
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    )
    log_path = directory / "jupyterhub.log"
    with log_path.open("ab") as log:
        hub = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(ROOT / "examples/quickstart/jupyterhub_config.py")],
            env=environment,
            cwd=directory,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        if not wait_for_page(f"{url}/hub/login", hub):
            tail = log_path.read_text(errors="replace").splitlines()[-20:]
            print("The Hub did not come up. The end of its log:", *tail, sep="\n  ", file=sys.stderr)
            return 1
        print(
            f"\n  JupyterHub is ready after {time.monotonic() - began:.1f} s\n\n"
            f"    open      {url}\n    user      any name, for example: ada\n    password  {password}\n\n"
            f"  Log: {log_path}\n  Stop it with Ctrl-C.\n",
            flush=True,
        )
        return hub.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        if hub.poll() is None:
            hub.terminate()
            try:
                hub.wait(30)
            except subprocess.TimeoutExpired:
                hub.kill()


if __name__ == "__main__":
    sys.exit(main())

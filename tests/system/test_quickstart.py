"""`make run`, without the installation: a Hub with a password, and nothing left behind when it is stopped."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from .hub_process import free_port, wait_for

pytestmark = [pytest.mark.timeout(120)]

SCRIPT = Path(__file__).parents[2] / "scripts" / "quickstart.py"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_lets_in_with_the_password_and_ends_whole(tmp_path: Path, how: signal.Signals) -> None:
    port = free_port()
    output = tmp_path / "output"
    environment = {**os.environ, "PORT": str(port), "QUICKSTART_DIR": str(tmp_path / "run")}
    with output.open("wb") as file:
        # As a shell's background job is started: Ctrl-C ignored.
        started = subprocess.Popen(
            [sys.executable, str(SCRIPT)], env=environment, stdout=file, stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN) and None,
        )
    children: list[psutil.Process] = []
    try:

        def where() -> re.Match[str] | None:
            assert started.poll() is None, output.read_text()
            return re.search(r"open +(\S+).*password +(\S+)", output.read_text(), re.DOTALL)

        found = wait_for(where, "it says where it is")
        assert found[1] == f"http://127.0.0.1:{port}"
        children = psutil.Process(started.pid).children(recursive=True)
        visitor = requests.Session()
        for password, status in (("wrong", 403), (found[2], 302)):
            page = visitor.get(f"{found[1]}/hub/login", timeout=10)
            token = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
            assert token is not None
            answer = visitor.post(
                f"{found[1]}/hub/login",
                data={"username": "ada", "password": password, "_xsrf": token[1]},
                headers={"Sec-Fetch-Mode": "navigate"}, allow_redirects=False, timeout=30,
            )
            assert answer.status_code == status
    finally:
        started.send_signal(how)
        started.wait(40)
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive and len(gone) >= 2, "the Hub and its proxy have ended"
    assert started.returncode == 0


@pytest.mark.parametrize("port", [8001, 8080, 8081, 65535])
def test_its_three_ports_differ_whichever_is_asked_for(port: int) -> None:
    chosen = runpy.run_path(str(SCRIPT))["choose_ports"](str(port))
    assert chosen[0] == port and len(set(chosen)) == 3


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1"])
def test_a_port_that_cannot_be_is_told(port: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], env={**os.environ, "PORT": port}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1 and "from 1 to 65535" in done.stderr and "Traceback" not in done.stderr

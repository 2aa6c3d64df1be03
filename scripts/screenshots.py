"""Take the pictures of the documentation: a real Hub, real servers, Chromium.

    python scripts/screenshots.py

writes them to docs/images. `--scheme dark`, `--width 360` and `--directory` show the same pages as others see them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.system.hub_process import HubProcess  # noqa: E402
from tests.system.test_browser import ARGUMENTS, CHROMIUM  # noqa: E402

#: The server of `grace` is to run an application that is not installed; that of `ada` starts as far as it may.
CONFIG = f"""
import os

c.JupyterHub.allow_named_servers = True
c.Authenticator.admin_users = {{"ada"}}
c.Spawner.cmd = [{str(Path(sys.executable).parent / "jupyterhub-singleuser")!r}]
c.Spawner.args = {["--allow-root"] if os.geteuid() == 0 else []}
c.Spawner.http_timeout = 90
c.LocalProcessSpawner.enforce_limits = "off"

def prepare(spawner):
    spawner.environment["JUPYTER_CONFIG_DIR"] = os.getcwd()
    if spawner.user.name == "grace":
        spawner.environment["JUPYTERHUB_SINGLEUSER_APP"] = "course_tools.app.CourseApp"

c.Spawner.pre_spawn_hook = prepare
"""

#: The configuration of the servers: each waits in the middle of its start until its picture has been taken.
SERVER_CONFIG = """
import os, pathlib, time
from jupyter_server.services.contents.largefilemanager import LargeFileManager

class Patient(LargeFileManager):
    def __init__(self, **settings):
        while not (pathlib.Path(__file__).parent / "go-on").exists():
            time.sleep(0.05)
        super().__init__(**settings)

c.ServerApp.contents_manager_class = Patient
c.ServerApp.cookie_secret = os.urandom(32)  # A line less in the log, which would tell a directory of this machine.
"""


def documented_profiles() -> str:
    """Return the configuration that the page about profiles shows, so that the picture is one of just that."""
    page = (ROOT / "docs/how-to/profiles.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found, "docs/how-to/profiles.md shows no configuration"
    return found[1]


def log_in(page: Any, name: str, next_path: str) -> None:
    page.goto(f"/hub/login?next={next_path}")
    page.fill("#username_input", name)
    page.fill("#password_input", "any")
    page.click("#login_submit")
    page.wait_for_url(f"**{next_path}")


def take_all(hub: HubProcess, visit: Callable[[], Any], picture: Callable[[Any, str], None]) -> None:
    """Go through the Hub as `ada`, an administrator, and `grace`, whose server does not start."""
    page = visit()
    log_in(page, "ada", "/hub/spawn")
    page.check("text=Data science")
    page.select_option("select[name*=cores]", "four")
    picture(page, "profiles")

    page.click("#spawn_form [type=submit]")
    page.wait_for_selector("#phases .current[data-phase=connecting]")
    page.wait_for_selector("#progress-log :text('jupyterlab | extension was successfully linked')")
    page.wait_for_selector("#elapsed:not(:empty)")
    picture(page, "starting")
    (hub.directory / "go-on").touch()
    hub.wait_ready("ada", timeout=90)

    failing = visit()
    log_in(failing, "grace", "/hub/spawn")
    failing.click("#spawn_form [type=submit]")
    failing.wait_for_selector("#failure:not([hidden])")
    picture(failing, "failure")

    hub.api("POST", "/users/ada/servers/thesis", {"profile": "small"})
    hub.wait_ready("ada", "thesis", timeout=90)
    page.goto("/hub/home")
    page.wait_for_selector("text=thesis")
    picture(page, "home")

    page.goto("/hub/admin")
    page.wait_for_selector("#admin-table tbody tr")
    picture(page, "admin")


def main() -> int:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--directory", type=Path, default=ROOT / "docs/images", help="where the pictures go")
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    parser.add_argument("--width", type=int, default=860, help="of the window, in pixels")
    given = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("Chromium is needed; the package is called chromium in Debian and Ubuntu.")
    given.directory.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        hub = HubProcess(Path(directory), documented_profiles() + CONFIG)
        (Path(directory) / "jupyter_server_config.py").write_text(SERVER_CONFIG)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, "--disable-lcd-text", "--hide-scrollbars"])

        def visit() -> Any:
            context = browser.new_context(
                base_url=hub.url,
                color_scheme=given.scheme,
                viewport={"width": given.width, "height": 500},
                reduced_motion="reduce",
            )
            return context.new_page()

        def picture(page: Any, name: str) -> None:
            path = given.directory / f"{name}.png"
            page.screenshot(path=path, full_page=True, animations="disabled")
            print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")

        try:
            hub.start()
            take_all(hub, visit, picture)
        finally:
            browser.close()
            hub.clean_up()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A real OpenID Connect provider (npm's oidc-provider, certified) in a process of its own, and people who log in there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests

from .hub_process import free_port, wait_for
from .person import Person
from .upstream import NotAvailable, _run, cache_directory

VERSION = "8"
PROGRAM = Path(__file__).with_name("openid_provider.mjs")


def provider_packages() -> Path:
    """Return the directory whose node_modules has the provider; it is fetched once. Raises NotAvailable."""
    directory = cache_directory() / f"oidc-provider-{VERSION}"
    if shutil.which("node") is None:
        raise NotAvailable("node is missing")
    if not (directory / "node_modules/oidc-provider/lib/index.js").exists():
        directory.mkdir(parents=True, exist_ok=True)
        _run("npm", "install", "--silent", "--prefix", directory, f"oidc-provider@{VERSION}")
    return directory


class OpenIDProvider:
    """One provider. `people` is name → groups and may be changed with `set_people` while it runs.

    `url` is its issuer, at the name localhost: its cookies are not those of a Hub at 127.0.0.1.
    Access tokens live for `token_seconds`. What it knows is in its memory, and gone after `stop`.
    """

    def __init__(self, directory: Path, hub_url: str, people: dict[str, list[str]], *, token_seconds: int) -> None:
        self._packages = provider_packages()
        self._directory, self._hub_url, self._token_seconds = directory, hub_url, token_seconds
        directory.mkdir(parents=True, exist_ok=True)
        self._log_path = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self.url = f"http://localhost:{self._port}"
        self.set_people(people)

    def set_people(self, people: dict[str, list[str]]) -> None:
        """From now on these are the people and their groups."""
        new = self._directory / "people.new"
        new.write_text(json.dumps(people))
        new.replace(self._directory / "people.json")

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = ["node", PROGRAM, self._packages, str(self._port), self._hub_url, str(self._token_seconds)]
        with self._log_path.open("wb") as log:
            process = subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=subprocess.STDOUT)
        self._process = process
        wait_for(lambda: self.events("listening") or process.poll() is not None, "the provider listens")
        assert process.poll() is None, self._log_path.read_text()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return what happened since the last start, in order."""
        lines = self._log_path.read_text().splitlines() if self._log_path.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [each for each in found if each["event"] == kind]

    def visit(self, person: Person, address: str, *, until: str = "") -> requests.Response:
        """Follow redirects and fill in the provider's forms, as `person`, until a page of the Hub.

        With `until`, the redirect to an address with this text is not followed, but returned.
        """
        answer = person.get(address, allow_redirects=False)
        for _ in range(30):
            if answer.is_redirect:
                target = urljoin(answer.url, answer.headers["Location"])
                if until and until in target:
                    return answer
                answer = person.get(target, allow_redirects=False)
                continue
            form = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
            if not answer.url.startswith(self.url) or form is None:
                return answer
            fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', answer.text))
            if 'name="login"' in answer.text:
                fields |= {"login": person.name, "password": "any"}
            if "/logout" in form[1]:
                fields |= {"logout": "yes"}
            answer = person.post(urljoin(answer.url, form[1]), data=fields, allow_redirects=False)
        raise AssertionError(f"no end of redirects: {answer.url}")

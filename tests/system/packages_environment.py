"""Other people's packages at their current releases, unmodified, in an environment of their own with this checkout.

They are fetched once by way of the extras in ``pyproject.toml``, and again when that file changes; the checkout is
installed in place, so it is always current. JUPYTERHUB_TEST_CACHE says where (default ``~/.cache/jupyterhub-tests``).
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from jupyterhub.core.known_plugins import KNOWN_PACKAGES

from .upstream import _run, cache_directory

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = sorted({package.extra for packages in KNOWN_PACKAGES.values() for package in packages} | {"culler", "singleuser"})


def packages_environment() -> Path:
    """Return the directory with the commands. Raises NotAvailable."""
    environment = cache_directory() / f"packages-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
    stamp = environment / "complete"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(environment, ignore_errors=True)
        environment.parent.mkdir(parents=True, exist_ok=True)
        _run(sys.executable, "-m", "venv", environment)
        # One of the classes behind `oauth` needs a package that oauthenticator leaves to those who use it.
        here = f"{ROOT}[{','.join(EXTRAS)}]"
        _run(environment / "bin/pip", "install", "--quiet", "--editable", here, "oauthenticator[mediawiki]")
        stamp.write_text(wanted)
    return environment / "bin"

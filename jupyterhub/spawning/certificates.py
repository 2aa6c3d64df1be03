"""Internal TLS for one server: its certificate, and bringing it to where the server finds it (config §5)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["create", "hand_over"]

LOCAL_NAMES = ("DNS:localhost", "IP:127.0.0.1")


def create(
    store: str, trust_bundles: Mapping[str, str], owner: str, alt_names: list[str], *, include_local: bool
) -> dict[str, str]:
    """Make a key and a certificate for a server, in place of the former pair. Blocks for a moment.

    `store` is the directory of all certificates, `owner` the user's name or empty for a service. Returns the
    paths: keyfile, certfile, cafile. Raises OSError when the store cannot be written.
    """
    from certipy import Certipy

    names = [*(LOCAL_NAMES if include_local else ()), *alt_names]
    common_name = owner or "service"
    pair = Certipy(store_dir=store).create_signed_pair(
        f"user-{common_name}", "notebooks-ca", alt_names=names, overwrite=True
    )
    files = pair["files"]
    return {
        "keyfile": files["key"],
        "certfile": files["cert"],
        "cafile": trust_bundles["notebooks-ca"],
    }


#: Run as the user, with the files' contents on standard input: root never opens a path that the user can change.
_SCRIPT = """
import json, os, shutil, sys
target = os.path.join(os.path.expanduser("~"), ".jupyterhub", "jupyterhub-certs")
files = json.load(sys.stdin)
os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
shutil.rmtree(target, ignore_errors=True)
os.mkdir(target, 0o700)
for name, text in files.items():
    handle = os.open(os.path.join(target, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
print(target)
"""


def hand_over(
    paths: Mapping[str, str], preexec_fn: Callable[[], None] | None, env: Mapping[str, str]
) -> dict[str, str]:
    """Copy the files into the user's home, readable by nobody else, and remove the original pair. Blocks.

    `preexec_fn` switches to the user; `env` holds HOME. Raises RuntimeError with the reason when it fails.
    """
    contents = {Path(path).name: Path(path).read_text() for path in paths.values()}
    done = subprocess.run(
        [sys.executable, "-I", "-c", _SCRIPT],
        input=json.dumps(contents),
        text=True,
        capture_output=True,
        preexec_fn=preexec_fn,
        env=dict(env),
        timeout=30,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"The server's certificate could not be handed over: {done.stderr.strip()[-500:]}")
    target = done.stdout.strip()
    moved: dict[str, Any] = {}
    for name, path in paths.items():
        moved[name] = f"{target}/{Path(path).name}"
        if name != "cafile":
            Path(path).unlink(missing_ok=True)
    return moved

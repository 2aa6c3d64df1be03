"""Internal TLS for one server: its certificate, and bringing it to where the server finds it (config §5)."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certipy import Certipy

__all__ = ["create", "hand_over", "keep_key_private", "make_pair", "open_store", "variables"]

LOCAL_NAMES = ("DNS:localhost", "IP:127.0.0.1")
LOCK = ".lock"
"""File in the store that whoever works on it has locked."""
LONGEST_NAME = 64
"""Bytes of a certificate's common name, by the standard."""


@contextmanager
def open_store(location: str) -> Iterator[Certipy]:
    """The store of all certificates, for one thread of one process at a time; waits for its turn.

    Its index is read whole and written whole: of two who change it together, one would lose what it wrote.
    """
    from certipy import Certipy

    os.makedirs(location, mode=0o755, exist_ok=True)
    # Whoever can open the file can lock everybody out.
    lock = os.open(os.path.join(location, LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = Certipy(store_dir=location)
        index = store.store
        index.save = lambda: _write_whole(index.store_file_path, json.dumps(index.store, indent=4))
        yield store
    finally:
        os.close(lock)


def _write_whole(path: str, text: str) -> None:
    # A Hub that is killed meanwhile must not leave half of it.
    draft = f"{path}.draft"
    Path(draft).write_text(text)
    os.replace(draft, path)


def keep_key_private(store: Certipy, name: str) -> None:
    """Make the key's file before certipy does, which would let everybody open it for a moment."""
    record = store.store.store.get(name) or {}
    path = Path((record.get("files") or {}).get("key") or f"{store.store.containing_dir}/{name}/{name}.key")
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def make_pair(store: Certipy, name: str, authority: str, alt_names: list[str]) -> dict[str, Any]:
    """Make a key and a certificate of this name, in place of the former pair. Returns the store's record.

    Raises ValueError when the authority cannot sign it.
    """
    if not store.store.get_record(authority)["files"].get("key"):
        raise ValueError(
            f"The authority {authority} is known without its key and cannot sign {name}: give it a `key` in "
            "JupyterHub.external_ssl_authorities"
        )
    keep_key_private(store, name)
    record: dict[str, Any] = store.create_signed_pair(name, authority, alt_names=alt_names, overwrite=True)
    return record


def create(
    location: str, trust_bundles: Mapping[str, str], name: str, alt_names: list[str], *, include_local: bool
) -> dict[str, str]:
    """Make a key and a certificate for a server, in place of the former pair. Blocks for a moment.

    `location` is the directory of all certificates, `name` that of the pair. Returns the absolute paths: keyfile,
    certfile, cafile. Raises OSError when the store cannot be written, ValueError for an impossible alternative name.
    """
    if len(name.encode()) > LONGEST_NAME:
        name = f"{name.encode()[:40].decode(errors='ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    names = [*(LOCAL_NAMES if include_local else ()), *alt_names]
    with open_store(location) as store:
        files = make_pair(store, name, "notebooks-ca", names)["files"]
    # The server runs in a directory of its own.
    paths = {"keyfile": files["key"], "certfile": files["cert"], "cafile": trust_bundles["notebooks-ca"]}
    return {kind: os.path.abspath(path) for kind, path in paths.items()}


def variables(paths: Mapping[str, str]) -> dict[str, str]:
    """What tells a server or a service where its files are."""
    return {
        "JUPYTERHUB_SSL_KEYFILE": paths.get("keyfile", ""),
        "JUPYTERHUB_SSL_CERTFILE": paths.get("certfile", ""),
        "JUPYTERHUB_SSL_CLIENT_CA": paths.get("cafile", ""),
    }


#: Run as the user, with a file's content on standard input: root never opens a path that the user can change.
_MAKE_DIRECTORY = 'umask 077 && mkdir -p "$HOME/.jupyterhub" && rm -rf -- "$1" && mkdir -- "$1"'
_WRITE_FILE = 'umask 077 && set -C && cat > "$1"'


def hand_over(
    paths: Mapping[str, str],
    preexec_fn: Callable[[], None] | None,
    env: Mapping[str, str],
    directory: str = "jupyterhub-certs",
) -> dict[str, str]:
    """Copy the files into the user's home, readable by nobody else, and remove the original pair. Blocks.

    They come to ``~/.jupyterhub/<directory>``, which is made anew. `preexec_fn` switches to the user; `env` holds HOME.
    Returns the paths there. Raises RuntimeError with the reason when it fails.
    """

    def as_user(script: str, path: str, content: str = "") -> None:
        done = subprocess.run(
            # A shell and not this Python, which may be where only the Hub's account can come.
            ["/bin/sh", "-c", script, "sh", path],
            input=content,
            text=True,
            capture_output=True,
            preexec_fn=preexec_fn,
            env=dict(env),
            timeout=30,
            check=False,
        )
        if done.returncode:
            reason = done.stderr.strip()[-500:] or f"status {done.returncode}"
            raise RuntimeError(f"The server's certificate could not be handed over: {reason}")

    target = os.path.join(env["HOME"], ".jupyterhub", directory)
    as_user(_MAKE_DIRECTORY, target)
    moved: dict[str, str] = {}
    for kind, path in paths.items():
        moved[kind] = os.path.join(target, os.path.basename(path))
        as_user(_WRITE_FILE, moved[kind], Path(path).read_text())
    for kind, path in paths.items():
        if kind != "cafile":
            Path(path).unlink(missing_ok=True)
    return moved

"""A virtual environment that every user of this machine may run, with the checkout installed in it.

The interpreter of a developer often lives in a home directory that others may not enter; servers of other users need
the system's Python and a directory open to all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def source_digest() -> str:
    """Return a digest of everything that goes into the wheel."""
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("jupyterhub/**/*"), *ROOT.glob("share/**/*"), ROOT / "pyproject.toml"]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def public_environment(*packages: str) -> Path:
    """Return the directory with the commands. The environment is kept between runs; the checkout in it is current.

    `packages` are released packages of others that are wanted beside it.
    """
    base = Path(os.environ.get("JUPYTERHUB_TEST_PUBLIC", "/var/tmp/jupyterhub-tests"))
    base.mkdir(mode=0o755, exist_ok=True)
    environment = base / "environment"
    stamp = environment / "checkout"
    python = environment / "bin/python"
    if not python.exists():
        interpreter = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
        subprocess.run([interpreter, "-m", "venv", str(environment)], check=True)
    wanted = source_digest()
    if not stamp.exists() or stamp.read_text() != wanted:
        with tempfile.TemporaryDirectory() as wheels:
            run = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*run, "wheel", "--no-deps", "--wheel-dir", wheels, str(ROOT)], check=True)
            wheel = next(Path(wheels).glob("*.whl"))
            subprocess.run([*run, "install", f"{wheel}[singleuser]"], check=True)
            subprocess.run([*run, "install", "--no-deps", "--force-reinstall", str(wheel)], check=True)
        shutil.rmtree(ROOT / "build", ignore_errors=True)
        stamp.write_text(wanted)
    for package in packages:
        present = environment / f"with-{package}"
        if not present.exists():
            subprocess.run([str(python), "-m", "pip", "--quiet", "install", package], check=True)
            present.touch()
    return environment / "bin"

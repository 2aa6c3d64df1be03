"""Install what the tests need beside Python, where that is possible, and say what is missing. Used by `make test`.

On Debian as root the packages are installed; elsewhere the tests that need them are listed as skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

#: What must be there, the Debian package that brings it, and what is not tested without it.
ENGINES = [
    ("linux.uml", "user-mode-linux", "limits by cgroup version 2"),
    ("chromium", "chromium", "the pages in a real browser"),
    ("/usr/lib/postgresql", "postgresql", "the store on PostgreSQL"),
    ("/usr/sbin/slapd", "slapd", "log-ins by LDAP"),
    ("node", "nodejs", "the proxy contract on the Node program, log-ins by OpenID Connect"),
    ("npm", "npm", "the proxy contract on the Node program, log-ins by OpenID Connect"),
    ("/usr/sbin/slurmctld", "slurm-wlm", "servers as jobs of Slurm"),
    ("/usr/sbin/munged", "munge", "servers as jobs of Slurm"),
    ("sudo", "sudo", "servers as jobs of Slurm"),
    ("/lib/systemd/systemd", "systemd", "servers in units of systemd"),
    ("dbus-daemon", "dbus", "servers in units of systemd"),
    ("dockerd", "docker.io", "servers in Docker containers"),
    ("ip", "iproute2", "servers in Docker containers"),
    ("iptables", "iptables", "servers in a Docker Swarm"),
]


def present(what: str) -> bool:
    return Path(what).exists() if what.startswith("/") else shutil.which(what) is not None


def fetch_node_proxy() -> None:
    """Have configurable-http-proxy where the tests look for it; without it they run on ours and the fake only."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.system.upstream import NotAvailable, node_proxy

    try:
        node_proxy()
    except NotAvailable as reason:
        print(f"Not tested here: the proxy contract on the Node program ({reason})")


def main() -> int:
    try:
        return install_packages()
    finally:
        fetch_node_proxy()


def install_packages() -> int:
    missing = [(what, package, why) for what, package, why in ENGINES if not present(what)]
    if not missing:
        return 0
    apt = shutil.which("apt-get")
    if apt and hasattr(os, "geteuid") and os.geteuid() == 0:
        packages = sorted({package for _, package, _ in missing})
        print("Installing", ", ".join(packages), "...", flush=True)
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run([apt, *command], env=environment, capture_output=True, text=True)
            if done.returncode:
                print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
        missing = [(what, package, why) for what, package, why in ENGINES if not present(what)]
    for what, package, why in missing:
        print(f"Not tested here: {why} ({what} is missing; Debian's package is called {package})")
    return 0


if __name__ == "__main__":
    sys.exit(main())

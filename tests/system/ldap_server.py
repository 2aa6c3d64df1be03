"""A real directory server (OpenLDAP's slapd) on loopback ports, with people and groups of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from .hub_process import free_port, wait_for
from .upstream import NotAvailable

BASE = "dc=example,dc=org"
SEARCHER, SEARCHER_PASSWORD = f"cn=searcher,{BASE}", "for the look-up"
#: Name → password. Grace's cn differs from her uid; Otto is in no group.
PEOPLE = {"lara": "lara's own", "grace": "grace's own", "otto": "otto's own"}
GROUPS = {"staff": ["lara", "grace"], "admins": ["grace"]}

CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {directory}/pid
TLSCACertificateFile {authority}
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
# A password that comes over an unencrypted connection is refused.
security simple_bind=64
database mdb
suffix {base}
directory {directory}/data
access to attrs=userPassword by anonymous auth by * none
access to * by users read by anonymous auth
"""


def entries() -> str:
    """Return the content of the directory as LDIF."""
    found = [
        f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: example",
        *(f"dn: ou={unit},{BASE}\nobjectClass: organizationalUnit" for unit in ("people", "groups")),
        f"dn: {SEARCHER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
        f"userPassword: {SEARCHER_PASSWORD}",
    ]
    for name, password in PEOPLE.items():
        found.append(
            f"dn: uid={name},ou=people,{BASE}\nobjectClass: inetOrgPerson\n"
            f"cn: {name.title()} Example\nsn: Example\nuserPassword: {password}"
        )
    for group, members in GROUPS.items():
        lines = "\n".join(f"member: uid={name},ou=people,{BASE}" for name in members)
        found.append(f"dn: cn={group},ou=groups,{BASE}\nobjectClass: groupOfNames\n{lines}")
    return "\n\n".join(found) + "\n"


class LDAPServer:
    """One slapd with data below `directory`; `key`, `certificate` and `authority` are files for its TLS.

    `port` speaks LDAP with StartTLS, `tls_port` TLS from the first byte. What it was asked is in `log()`.
    Raises NotAvailable where there is no slapd.
    """

    def __init__(self, directory: Path, *, key: str, certificate: str, authority: str) -> None:
        program = shutil.which("slapd", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
        if program is None or not Path("/etc/ldap/schema").is_dir():
            raise NotAvailable("slapd as Debian has it is missing; the package is called slapd")
        self._program = program
        self.directory = directory
        self.port, self.tls_port = free_port(), free_port()
        self._log_path = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "data").mkdir(parents=True)
        self._configuration = directory / "slapd.conf"
        self._configuration.write_text(
            CONFIGURATION.format(
                directory=directory, base=BASE, key=key, certificate=certificate, authority=authority
            )
        )
        done = subprocess.run(
            [self._program, "-T", "add", "-f", str(self._configuration)],
            input=entries(), text=True, capture_output=True, timeout=30, check=False,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it and wait until it listens."""
        addresses = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        with self._log_path.open("wb") as log:
            process = subprocess.Popen(
                [self._program, "-f", str(self._configuration), "-h", addresses, "-d", "stats"],
                stdout=log, stderr=subprocess.STDOUT,
            )
        self._process = process
        # The last thing that slapd says before it serves.
        wait_for(lambda: "slapd starting" in self.log() or process.poll() is not None, "slapd listens")
        assert process.poll() is None, self.log()

    def stop(self) -> None:
        """End it; its data stay."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Stop its clock: it holds its ports, and answers nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def has_waiting_connection(self) -> bool:
        """Whether somebody has connected whom it has not let in yet."""
        return any(
            connection.status == psutil.CONN_ESTABLISHED and connection.raddr and connection.raddr.port == self.port
            for connection in psutil.net_connections("tcp")
        )

    def log(self) -> str:
        """Return the requests since its last start, one or more lines each."""
        return self._log_path.read_text(errors="replace")

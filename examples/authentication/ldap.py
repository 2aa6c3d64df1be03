"""Log in with the accounts of an LDAP directory; a group of the directory decides who may, another who administers.

    pip install ".[ldap,singleuser]"
    jupyterhub -f examples/authentication/ldap.py
"""

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

from ldapauthenticator import LDAPAuthenticator

c = get_config()


class PatientLDAPAuthenticator(LDAPAuthenticator):
    """Asks the directory in a thread: without that, the whole Hub waits for the answer at each log-in."""

    threads = ThreadPoolExecutor(8)

    async def authenticate(self, handler, data):
        question = super().authenticate(handler, data)
        return await asyncio.get_running_loop().run_in_executor(self.threads, asyncio.run, question)


# A directory that says nothing for so many seconds is taken for one that is away.
socket.setdefaulttimeout(10)

c.JupyterHub.authenticator_class = PatientLDAPAuthenticator
c.LDAPAuthenticator.server_address = "ldap.example.org"

# The connection is encrypted by StartTLS before any password is sent. Who is at the other end is only checked if you
# ask for it:
c.LDAPAuthenticator.tls_strategy = "before_bind"
c.LDAPAuthenticator.tls_kwargs = {
    "validate": ssl.CERT_REQUIRED,
    "ca_certs_file": "/etc/ssl/certs/ca-certificates.crt",
}

# A person is whoever the directory lets in under this name.
c.LDAPAuthenticator.bind_dn_template = ["uid={username},ou=people,dc=example,dc=org"]

# Members of one of these groups may log in.
STAFF, ADMINS = "cn=staff,ou=groups,dc=example,dc=org", "cn=admins,ou=groups,dc=example,dc=org"
c.LDAPAuthenticator.allowed_groups = [STAFF, ADMINS]


def groups_from_directory(authenticator, handler, model):
    """The groups above, by their short names, become groups of the Hub; `admins` administer it."""
    found = model["auth_state"]["ldap_groups"]
    model["groups"] = [group.split(",")[0].removeprefix("cn=") for group in found]
    model["admin"] = ADMINS in found
    return model


c.Authenticator.manage_groups = True
c.Authenticator.post_auth_hook = groups_from_directory

"""An authenticator that knows people from a file, with a line for each:

    NAME:HASH:GROUP,GROUP,...

`python -m passwordfileauthenticator NAME GROUP...` asks for a password and prints the line.
"""

import asyncio
import getpass
import hashlib
import hmac
import os
import sys
from dataclasses import dataclass

from jupyterhub.auth import Authenticator
from traitlets import Bool, Unicode


def hash_password(password, salt=None):
    """Return the salt and what scrypt makes of it and the password, in hexadecimal."""
    salt = salt or os.urandom(16)
    return f"{salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1).hex()}"


def matches(password, hashed):
    salt, _, _ = hashed.partition("$")
    return hmac.compare_digest(hash_password(password, bytes.fromhex(salt)), hashed)


#: Compared with where nobody has the name, so that the time an answer takes does not tell which names exist.
NOBODY = hash_password(os.urandom(16).hex())


@dataclass(frozen=True)
class Person:
    password: str
    groups: list


class PasswordFileAuthenticator(Authenticator):
    """Knows people from a file."""

    password_file = Unicode("passwords", help="The file with a line NAME:HASH:GROUP,GROUP,... for each person.").tag(
        config=True
    )

    # Settings whose names begin with "allow" are rules about who may come in: the Hub warns if none of them is set.
    allow_listed = Bool(False, help="Let in everybody who has a line in the file.").tag(config=True)

    def people(self):
        """Return who is in the file, by name."""
        found = {}
        with open(self.password_file, encoding="utf-8") as lines:
            for line in lines:
                name, _, rest = line.strip().partition(":")
                password, _, groups = rest.partition(":")
                if name and password and not name.startswith("#"):
                    found[self.normalize_username(name)] = Person(password, [each for each in groups.split(",") if each])
        return found

    def model(self, name, person):
        """Return what the Hub is told about a person."""
        known = {"name": name}
        # The groups of the file become the person's groups in the Hub, if `manage_groups` says so.
        if self.manage_groups:
            known["groups"] = person.groups
        return known

    # Who is it?

    async def authenticate(self, handler, data):
        """Return what is known about whoever gave the right password, None for anybody else."""
        name = self.normalize_username(data["username"])
        person = self.people().get(name)
        # Hashing takes a tenth of a second of a processor, in which the Hub has other things to do.
        right = await asyncio.to_thread(matches, data["password"], person.password if person else NOBODY)
        return self.model(name, person) if right and person else None

    # May they come in?

    def check_allowed(self, username, authentication=None):
        """Rules add up: those of the base class (allow_all, allowed_users, …), and ours."""
        return super().check_allowed(username, authentication) or (self.allow_listed and username in self.people())

    # Is it still so? Asked every `auth_refresh_age` seconds, and before a server starts.

    async def refresh_user(self, user, handler=None):
        """Whoever is no longer in the file has to log in again, and cannot; groups follow the file."""
        person = self.people().get(user.name)
        return self.model(user.name, person) if person else False


if __name__ == "__main__":
    print(f"{sys.argv[1]}:{hash_password(getpass.getpass())}:{','.join(sys.argv[2:])}")

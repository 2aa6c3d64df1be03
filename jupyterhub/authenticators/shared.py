"""One password for everybody, another for administrators (config §8.8)."""

from __future__ import annotations

from typing import Any

from traitlets import Dict, List, TraitError, Unicode, validate

from ..auth import Authenticator
from ..core.secrets import constant_time_equal

__all__ = ["SharedPasswordAuthenticator"]

#: Shortest passwords, in characters. Many people share the first one; the second opens everything.
SHORTEST_USER_PASSWORD = 8
SHORTEST_ADMIN_PASSWORD = 32


class SharedPasswordAuthenticator(Authenticator):
    """A name of one's choice and a password that all users share; administrators have one of their own.

    For a class or workshop among people who trust each other: whoever knows the password can log in under any
    name that is allowed.
    """

    user_password = Unicode(
        None,
        allow_none=True,
        help=f"""
        The password of everybody who is not in `admin_users`, at least {SHORTEST_USER_PASSWORD} characters.

        Without one, only administrators and people with a password of `password_groups` get in.
        """,
    ).tag(config=True)

    admin_password = Unicode(
        None,
        allow_none=True,
        help=f"""
        The password of the people in `admin_users`, at least {SHORTEST_ADMIN_PASSWORD} characters.

        It must not be that of the users. Without one, administrators cannot log in.
        """,
    ).tag(config=True)

    password_groups = Dict(
        key_trait=Unicode(),
        value_trait=List(Unicode()),
        help="""
        Further passwords, each with the groups that somebody who uses it is put into.

        A dictionary from password to list of groups; it needs `manage_groups = True`.
        """,
    ).tag(config=True)

    @validate("user_password")
    def _check_user_password(self, proposal: Any) -> str | None:
        return self._long_enough("user_password", proposal.value, SHORTEST_USER_PASSWORD)

    @validate("admin_password")
    def _check_admin_password(self, proposal: Any) -> str | None:
        return self._long_enough("admin_password", proposal.value, SHORTEST_ADMIN_PASSWORD)

    def _long_enough(self, name: str, password: str | None, length: int) -> str | None:
        if not password:
            return None
        if len(password) < length:
            raise TraitError(
                f"{type(self).__name__}.{name} has {len(password)} characters; at least {length} are needed"
            )
        return password

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._check_together()

    def _check_together(self) -> None:
        name = type(self).__name__
        if self.password_groups and not self.manage_groups:
            raise ValueError(f"{name}.password_groups needs {name}.manage_groups = True")
        if self.user_password and self.user_password == self.admin_password:
            raise ValueError(f"{name}.user_password and {name}.admin_password must not be the same")

    def check_allow_config(self) -> None:
        """Warn also when there is no password that anybody could use."""
        super().check_allow_config()
        name = type(self).__name__
        if not any((self.user_password, self.admin_password, self.password_groups)):
            self.log.warning("Nobody can log in: no password is configured. Set %s.user_password.", name)
        if self.admin_users and not self.admin_password:
            self.log.warning(
                "The people in %s.admin_users cannot log in: %s.admin_password is not set", name, name
            )

    async def authenticate(self, handler: Any, data: Any) -> Any:
        """Return the model of somebody who typed the right password for the name, else None."""
        typed = data.get("password", "")
        username = self.normalize_username(data["username"])
        admin = username in self.admin_users
        wanted = self.admin_password if admin else self.user_password
        if wanted and constant_time_equal(typed, wanted):
            return {"name": username, "admin": admin, "groups": []}
        if admin:
            return None
        for group_password, groups in self.password_groups.items():
            if constant_time_equal(typed, group_password):
                return {"name": username, "groups": list(groups)}
        return None

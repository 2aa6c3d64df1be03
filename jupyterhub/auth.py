"""Who may log in: the Authenticator base class, and those that come with the Hub (plugins §4, config §8).

An authenticator brings its own pages, so this module stands above the handlers. The runtime calls it by its
methods and never imports it.
"""

from __future__ import annotations

import asyncio
import inspect
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from shlex import join as shell_join
from subprocess import PIPE, STDOUT, Popen
from typing import TYPE_CHECKING, Any

from traitlets import Any as AnyTrait
from traitlets import Bool, Dict, Integer, Set, Unicode, default, observe
from traitlets.config import LoggingConfigurable

from .aio import maybe_future
from .authenticators.settings import AuthenticatorSettings
from .core.names import is_valid_user_name, normalise_user_name
from .core.secrets import constant_time_equal
from .core.urls import url_path_join
from .handlers.login import LoginHandler, abbreviate
from .traitlets import Command

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "Authenticator",
    "DummyAuthenticator",
    "LocalAuthenticator",
    "NullAuthenticator",
    "PAMAuthenticator",
]

#: What `authenticate` may return: the model of plugins §4.2.
AuthModel = dict[str, Any]


def __getattr__(name: str) -> Any:
    # Loading pamela looks for the system's library, which costs more than everything else in this module.
    if name == "pamela":
        return _pamela()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _pamela() -> ModuleType:
    """Return the module `pamela`. Raises ImportError where PAM is missing."""
    if "pamela" not in globals():
        import pamela

        globals()["pamela"] = pamela
    module: ModuleType = globals()["pamela"]
    return module


#: Names of methods before JupyterHub 1.2 → those that took their place. Old plugins still redefine the old
#: ones.
_RENAMED_METHODS = {
    "check_whitelist": "check_allowed",
    "check_blacklist": "check_blocked_users",
    "check_group_whitelist": "check_allowed_groups",
}


class Authenticator(AuthenticatorSettings, LoggingConfigurable):
    """Decides who may log in, and what is known about them.

    To write one, override `authenticate`; everything else has a default. `authenticate`, `check_allowed`,
    `check_blocked_users`, `is_admin`, `add_user`, `delete_user`, `pre_spawn_start`, `post_spawn_stop` and the
    hooks may be plain functions, coroutines, or return an executor's future; `refresh_user` and
    `load_managed_roles` are coroutines.
    """

    _deprecated_db_session = AnyTrait(help="The session behind `db`.")

    @default("_deprecated_db_session")
    def _default_db_session(self) -> Any:
        # Asked for only by plugins that keep tables of their own; other sites never open that session.
        return getattr(self.parent, "db", None)

    @property
    def db(self) -> Any:
        """The session of the Hub's database that plugins share. Deprecated; blocks the Hub while it works."""
        if not getattr(self, "_warned_about_db", False):
            self._warned_about_db = True
            self.log.warning(
                "%s uses the Hub's own database session, which is deprecated and holds up everybody else; "
                "a database of its own would serve it better.",
                type(self).__name__,
            )
        return self._deprecated_db_session

    @db.setter
    def db(self, session: Any) -> None:
        self._deprecated_db_session = session

    #: Coroutine function from a normalised name to whether the Hub knows that user; set by whoever has the
    #: database.
    _knows_user: Callable[[str], Awaitable[bool]] | None = None

    def __init__(self, **kwargs: Any) -> None:
        if "db" in kwargs:
            # Not a trait, but tests of plugins pass it as if it were.
            kwargs["_deprecated_db_session"] = kwargs.pop("db")
        super().__init__(**kwargs)
        self._adapt_old_methods()

    def _adapt_old_methods(self) -> None:
        """Let overrides count that were written for names and signatures of old releases (plugins §4.2)."""
        for old, new in _RENAMED_METHODS.items():
            for cls in type(self).__mro__:
                if new in vars(cls):
                    break
                if old in vars(cls):
                    self.log.warning(
                        "%s.%s is deprecated; the method is called %s now", cls.__name__, old, new
                    )
                    setattr(self, new, _with_authentication(getattr(self, old)))
                    break
        for name in ("check_allowed", "check_blocked_users", "check_allowed_groups"):
            method = getattr(self, name, None)
            adapted = _with_authentication(method) if method is not None else None
            if adapted is not None and adapted is not method:
                self.log.warning(
                    "%s.%s takes only the user name; a second parameter, authentication=None, is expected",
                    type(self).__name__, name,
                )
                setattr(self, name, adapted)

    # The steps of a log-in

    async def get_authenticated_user(self, handler: Any, data: Any) -> AuthModel | None:
        """Return the complete model of the user whom `data` describes, or None if nobody may log in with it.

        The order is that of plugins §4.2: authenticate, normalise and check the name, blocked, allowed,
        administrator, `post_auth_hook`. An HTTPError raised in any step is what the visitor sees. Raises
        ValueError for a result without a name.
        """
        found = await maybe_future(self.authenticate(handler, data))
        if found is None:
            return None
        if isinstance(found, str):
            found = {"name": found}
        elif not isinstance(found, dict):
            if not found:
                return None
            raise ValueError(
                f"{type(self).__name__}.authenticate must return a name, a dictionary or None, not "
                f"{found!r:.100}"
            )
        if "name" not in found:
            raise ValueError(f"{type(self).__name__}.authenticate returned a dictionary without 'name'")
        model: AuthModel = found
        for key in ("auth_state", "user_info", "admin"):
            model.setdefault(key, None)
        name = model["name"] = self.normalize_username(model["name"])
        if not self.validate_username(name):
            self.log.warning("User name %s is not accepted; log-in refused", abbreviate(repr(name)))
            return None
        if not await maybe_future(self.check_blocked_users(name, model)):
            self.log.warning("User %s is blocked; log-in refused", abbreviate(repr(name)))
            return None
        if not self.allow_all:
            await self._allow_if_existing(name)
            if not await maybe_future(self.check_allowed(name, model)):
                self.log.warning("User %s is not allowed to log in", abbreviate(repr(name)))
                return None
        if model["admin"] is None:
            model["admin"] = await maybe_future(self.is_admin(handler, model))
        result: AuthModel | None = await self.run_post_auth_hook(handler, model)
        return result

    async def _allow_if_existing(self, name: str) -> None:
        """Make `allowed_users` name somebody the Hub knows, as `allow_existing_users` wants.

        Looked up at log-in, because listing everybody at start-up takes as long as there are users.
        """
        if self.allow_existing_users and name not in self.allowed_users and self._knows_user is not None:
            if await self._knows_user(name):
                self.allowed_users.add(name)

    def authenticate(self, handler: Any, data: Any) -> Any:
        """Return whom the data of the log-in form (or whatever a handler passes) describes.

        None refuses; a user name accepts; a dictionary says more: `name` and, if wanted, `auth_state` (a
        dictionary that JSON can hold), `admin` (True, False, or None to leave it), `groups` (list of names,
        required with `manage_groups`), `roles` (list as in `load_roles`, with `manage_roles`) and `user_info`
        (dictionary). The base class refuses everybody.
        """
        return None

    def normalize_username(self, username: str) -> str:
        """Return the one form of a name: lower case, then looked up in `username_map`."""
        return normalise_user_name(username, self.username_map)

    def validate_username(self, username: str) -> bool:
        """Return whether somebody may have this name."""
        if not is_valid_user_name(username):
            return False
        return bool(self.username_regex.match(username)) if self.username_regex else True

    def check_allowed(self, username: str, authentication: AuthModel | None = None) -> Any:
        """Return whether somebody who has authenticated may log in."""
        return self.allow_all or username in self.allowed_users

    def check_blocked_users(self, username: str, authentication: AuthModel | None = None) -> Any:
        """Return whether the name is *not* blocked."""
        return username not in self.blocked_users

    def check_whitelist(self, username: str, authentication: AuthModel | None = None) -> Any:
        """Answer what `check_allowed` of this class does.

        For plugins that call the old name with `super()`.
        """
        return Authenticator.check_allowed(self, username, authentication)

    def check_blacklist(self, username: str, authentication: AuthModel | None = None) -> Any:
        """Answer what `check_blocked_users` of this class does.

        For plugins that call the old name with `super()`.
        """
        return Authenticator.check_blocked_users(self, username, authentication)

    def is_admin(self, handler: Any, authentication: AuthModel) -> Any:
        """Return whether the user is an administrator; None leaves that as it is."""
        return True if authentication["name"] in self.admin_users else None

    async def run_post_auth_hook(self, handler: Any, auth_model: AuthModel) -> Any:
        """Return what `post_auth_hook` makes of the model; the model itself without a hook."""
        hook = self.post_auth_hook
        return auth_model if hook is None else await maybe_future(hook(self, handler, auth_model))

    async def refresh_user(self, user: Any, handler: Any = None) -> Any:
        """Return whether the user's log-in still stands.

        True: it does. Something false: log in again. A dictionary as from `authenticate`: it does, and this
        is new.
        """
        return True

    def check_allow_config(self) -> None:
        """Warn when no setting allows anybody to log in. Called once, when the Hub starts."""
        if not self.any_allow_config:
            self.log.warning(
                "Nobody is allowed to log in: set %s.allow_all = True to let in everybody who can "
                "authenticate, or name "
                "people in allowed_users.",
                type(self).__name__,
            )

    # The life of users and servers

    def add_user(self, user: Any) -> Any:
        """Make a new user known.

        Raises ValueError for a name that is not accepted, which undoes the creation.

        Called after a first log-in, when an administrator adds somebody, and at start-up for everybody known.
        """
        if not self.validate_username(user.name):
            raise ValueError(f"The user name {user.name!r} is not accepted by this Hub")
        if not self.allow_all and self.allow_existing_users:
            self.allowed_users.update({user.name})

    def delete_user(self, user: Any) -> Any:
        """Forget a user who was deleted."""
        self.allowed_users.discard(user.name)

    def pre_spawn_start(self, user: Any, spawner: Any) -> Any:
        """Prepare a start, just before `pre_spawn_hook`. An exception fails the start."""

    def post_spawn_stop(self, user: Any, spawner: Any) -> Any:
        """Clean up after a server that has stopped."""

    async def load_managed_roles(self) -> list[dict[str, Any]]:
        """Return the roles that exist without anybody logging in, as in `load_roles`. For `manage_roles`."""
        if self.reset_managed_roles_on_startup:
            raise NotImplementedError(
                f"{type(self).__name__} has no load_managed_roles, so reset_managed_roles_on_startup would "
                f"take away "
                "every role until its users log in again; turn that setting off"
            )
        return []

    # Pages

    def login_url(self, base_url: str) -> str:
        """Return the address that starts a log-in, given the Hub's prefix."""
        return url_path_join(base_url, "login")

    def logout_url(self, base_url: str) -> str:
        """Return the address that starts a log-out, given the Hub's prefix."""
        return url_path_join(base_url, "logout")

    def get_handlers(self, app: Any) -> list[Any]:
        """Return (path below the Hub's prefix, handler class[, keyword arguments]) tuples.

        They win over the Hub's own.
        """
        return [("/login", LoginHandler)]

    def get_custom_html(self, base_url: str) -> str:
        """Return HTML to show in place of the log-in form, or nothing for the form."""
        return str(self.custom_html)


def _with_authentication(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return `method`, or for one that takes only the user name, a function that takes the model as well."""
    try:
        parameters = list(inspect.signature(method).parameters.values())
    except (TypeError, ValueError):
        return method
    if len(parameters) > 1 or any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return method

    def without_authentication(username: str, authentication: AuthModel | None = None) -> Any:
        return method(username)

    return without_authentication


class LocalAuthenticator(Authenticator):
    """Users who have, or are to have, an account on this machine.

    Combined with another class, as in `class LocalThing(LocalAuthenticator, Thing)`, it adds the accounts to
    whatever the other uses for log-in.
    """

    create_system_users = Bool(
        False,
        help="""
        Make an account on this machine for users who have none.

        Needs the rights to run `add_user_cmd`. Without it, adding a user without an account fails.
        """,
    ).tag(config=True)

    add_user_cmd = Command(
        help="""
        What to run to make an account, as a list of words.

        USERNAME in any word stands for the name, which is also added as the last word. For example,
        ['adduser', '-q', '--home', '/homes/USERNAME'] runs as: adduser -q --home /homes/ada ada
        """
    ).tag(config=True)

    @default("add_user_cmd")
    def _default_add_user_cmd(self) -> list[str]:
        if sys.platform == "darwin":
            raise ValueError(
                "macOS has no command that adds an account; set LocalAuthenticator.add_user_cmd to a "
                "script of yours"
            )
        if shutil.which("pw"):
            return ["pw", "useradd", "-m", "-n"]
        return ["adduser", "-q", "--gecos", '""', "--disabled-password"]

    uids = Dict(
        help="Numbers for new accounts, by user name. The system chooses for names that are not here."
    ).tag(config=True)

    allowed_groups = Set(
        help="Groups of this machine whose members may log in, besides `allowed_users`."
    ).tag(config=True, allow_config=True)

    group_whitelist = Set(help="Deprecated and without effect: use `allowed_groups`.").tag(config=True)

    def check_allowed(self, username: str, authentication: AuthModel | None = None) -> Any:
        """Return whether somebody may log in, by the groups of the machine or by the other rules."""
        by_group = self.check_allowed_groups(username, authentication)
        return by_group or super().check_allowed(username, authentication)

    def check_allowed_groups(self, username: str, authentication: AuthModel | None = None) -> bool:
        """Return whether the account is in one of `allowed_groups`.

        Raises KeyError if there is no such account.
        """
        return bool(self.allowed_groups) and self._in_any_group(username, self.allowed_groups)

    def check_group_whitelist(self, username: str, authentication: AuthModel | None = None) -> bool:
        """Answer what `check_allowed_groups` of this class does.

        For plugins that call the old name with `super()`.
        """
        return LocalAuthenticator.check_allowed_groups(self, username, authentication)

    def _in_any_group(self, username: str, groups: Any) -> bool:
        account = self._getpwnam(username)
        member_of = set(self._getgrouplist(username, account.pw_gid))
        return not member_of.isdisjoint(self._numbers_of_groups(groups))

    def _numbers_of_groups(self, names: Any) -> Iterator[int]:
        for name in names:
            try:
                yield self._getgrnam(name).gr_gid
            except KeyError:
                self.log.error("There is no group %r on this machine", name)

    async def add_user(self, user: Any) -> Any:
        """Make sure of the account, then do the rest.

        Raises KeyError when there is none and none may be made.
        """
        if not await maybe_future(self.system_user_exists(user)):
            await self._make_account(user)
        await maybe_future(super().add_user(user))

    async def _make_account(self, user: Any) -> None:
        if self.create_system_users:
            await asyncio.get_running_loop().run_in_executor(None, self.add_system_user, user)
        else:
            raise KeyError(
                f"User {user.name!r} has no account on this machine; make one, or set "
                "LocalAuthenticator.create_system_users = True"
            )

    @staticmethod
    def _getgrnam(name: str) -> Any:
        import grp

        return grp.getgrnam(name)

    @staticmethod
    def _getpwnam(name: str) -> Any:
        import pwd

        return pwd.getpwnam(name)

    @staticmethod
    def _getgrouplist(name: str, group: int) -> list[int]:
        import os

        return os.getgrouplist(name, group)

    def system_user_exists(self, user: Any) -> bool:
        """Return whether the user has an account here."""
        try:
            self._getpwnam(user.name)
        except KeyError:
            return False
        return True

    def add_system_user(self, user: Any) -> None:
        """Make the account with `add_user_cmd`.

        Blocks. Raises RuntimeError with the command's output when it fails.
        """
        name = user.name
        command = [word.replace("USERNAME", name) for word in self.add_user_cmd]
        if name in self.uids:
            command += ["--uid", str(self.uids[name])]
        command.append(name)
        self.log.info("Making an account: %s", shell_join(command))
        process = Popen(command, stdout=PIPE, stderr=STDOUT)
        process.wait()
        if process.returncode:
            output = process.stdout.read() if process.stdout else b""
            text = output.decode("utf8", "replace") if isinstance(output, bytes) else str(output)
            raise RuntimeError(
                f"{shell_join(command)} ended with status {process.returncode}, so user {name!r} has no "
                f"account: {text}"
            )


def _lack_of_rights(username: str) -> str:
    """What is to be added to a refusal by PAM where it may be for the account that the Hub itself runs under."""
    import os
    import pwd

    if os.geteuid() == 0:
        return ""
    try:
        own = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        # A container may run under a number that has no account in it.
        own = str(os.geteuid())
    return "" if own == username else f". The Hub runs as {own}, not as root: it may check no password but that of {own}"


class PAMAuthenticator(LocalAuthenticator):
    """Log in with an account of this machine and its password, through PAM.

    Reading passwords of others needs root or membership in the group that may read the shadow file.
    """

    executor_threads = Integer(
        4, help="Threads that wait for PAM. A PAM module may take seconds, and holds up nobody else there."
    ).tag(config=True)

    executor: Any = AnyTrait(help="Runs PAM's functions, which block.")

    @default("executor")
    def _default_executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.executor_threads, thread_name_prefix="pam")

    encoding = Unicode("utf8", help="Encoding of names and passwords on their way to PAM.").tag(config=True)

    service = Unicode("login", help="Name of the PAM service, a file in /etc/pam.d.").tag(config=True)

    open_sessions = Bool(
        False,
        help="""
        Open a PAM session when a user's server starts, and close it when it stops.

        Some modules, such as those that mount home directories, need it. Others do harm, since there is one
        process for everybody; it is turned off when a session cannot be opened.
        """,
    ).tag(config=True)

    check_account = Bool(
        True, help="Ask PAM not only for the password, but also whether the account is valid just now."
    ).tag(config=True)

    admin_groups = Set(
        help="""
        Groups of this machine whose members are administrators.

        When it is set, somebody who is in none of them and not in `admin_users` stops being one at the next
        log-in.
        """
    ).tag(config=True)

    pam_normalize_username = Bool(
        False,
        help="""
        Take the name that the system itself has for an account, by looking up its number and the name of
        that.

        For directories in which people have several names for one account.
        """,
    ).tag(config=True)

    def _on_thread(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self.executor, function, *args)

    def is_admin(self, handler: Any, authentication: AuthModel) -> Any:
        """Return whether the user is in `admin_users` or `admin_groups`; None without such groups."""
        if super().is_admin(handler, authentication):
            return True
        if not self.admin_groups:
            return None
        return self._on_thread(self._in_any_group, authentication["name"], self.admin_groups)

    def authenticate(self, handler: Any, data: Any) -> Any:
        """Return the name if PAM accepts the password, else None."""
        address = getattr(getattr(handler, "request", None), "remote_ip", None)
        return self._on_thread(self._authenticate, data, address)

    def _authenticate(self, data: Any, address: str | None) -> str | None:
        pam = _pamela()
        username: str = data["username"]
        password: Any = data["password"]
        if "otp" in data:
            # PAM asks one question after the other; a pair answers both.
            password = (password, data["otp"])
        shown = abbreviate(username)
        where = f" from {address}" if address else ""
        options = {"service": self.service, "encoding": self.encoding}
        try:
            refused = "the password"
            pam.authenticate(username, password, **options)
            if self.check_account:
                refused = "the account"
                pam.check_account(username, **options)
        except pam.PAMError as error:
            self.log.warning("PAM refuses %s of user %r%s: %s%s", refused, shown, where, error, _lack_of_rights(username))
            return None
        return username

    def pre_spawn_start(self, user: Any, spawner: Any) -> Any:
        """Open a session, if so configured."""
        return self._on_thread(self._session, "open_session", user.name) if self.open_sessions else None

    def post_spawn_stop(self, user: Any, spawner: Any) -> Any:
        """Close the session."""
        return self._on_thread(self._session, "close_session", user.name) if self.open_sessions else None

    def _session(self, function: str, username: str) -> None:
        pam = _pamela()
        try:
            getattr(pam, function)(username, service=self.service, encoding=self.encoding)
        except pam.PAMError as error:
            self.log.warning(
                "PAM's %s failed for user %s, so sessions are left alone from now on: "
                "%s",
                function, username, error
            )
            self.open_sessions = False

    def normalize_username(self, username: str) -> str:
        """Return the one form of a name.

        The system's own if so configured, else lower case; then `username_map`.
        """
        if not self.pam_normalize_username:
            return super().normalize_username(username)
        import pwd

        name = pwd.getpwuid(pwd.getpwnam(username).pw_uid).pw_name
        mapped: str = self.username_map.get(name, name)
        return mapped


class DummyAuthenticator(Authenticator):
    """Any name, any password: for trying things out, and never where others can reach it."""

    password = Unicode(
        help="""
        Deprecated: one password for everybody; anything is accepted while it is empty.

        `SharedPasswordAuthenticator` does this properly.
        """
    ).tag(config=True)

    @default("allow_all")
    def _default_allow_all(self) -> bool:
        return not self.allowed_users

    @observe("password")
    def _warn_about_password(self, change: Any) -> None:
        self.log.warning(
            "DummyAuthenticator.password is deprecated; use SharedPasswordAuthenticator.user_password instead"
        )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.log.warning("DummyAuthenticator asks nobody who they are: use it for trying things out only")

    async def authenticate(self, handler: Any, data: Any) -> Any:
        """Return the name; with `password` set, only if that is what was typed."""
        if self.password and not constant_time_equal(str(data.get("password", "")), self.password):
            return None
        return data["username"]


class NullAuthenticator(Authenticator):
    """Nobody can log in. For a Hub that only answers programs with tokens."""

    auto_login = True
    login_service = "null"

    async def authenticate(self, handler: Any, data: Any) -> Any:
        """Refuse."""
        return None

    def get_handlers(self, app: Any) -> list[Any]:
        """Return nothing: there is no place to log in."""
        return []

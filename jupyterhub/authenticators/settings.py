"""The settings that every authenticator has (config §8)."""

import re
from typing import Any

from traitlets import Any as AnyTrait
from traitlets import Bool, Dict, Integer, Set, Unicode, default, observe, validate

from ..traitlets import TopicTraits


class AuthenticatorSettings(TopicTraits):
    """Who may log in, how, and what is remembered of it."""

    log: Any

    # Who may log in

    admin_users = Set(
        help="""
        Names of the administrators.

        They can see and change everything: other people's servers, users, groups, the Hub itself. The
        configuration only ever makes administrators: a name taken off the list keeps its rights until an
        administrator takes them away on the admin page.

        Being listed here is not yet a permission to log in, except where `allowed_users` is in use:
        administrators are added to it.
        """
    ).tag(config=True)

    allowed_users = Set(
        help="""
        Names of the people who may log in.

        They are made known to the Hub when it starts. With this empty, and neither `allow_all` nor another
        setting that allows somebody, nobody can log in.
        """
    ).tag(config=True)

    blocked_users = Set(
        help="""
        Names of people who may not log in, whatever else allows them.

        When the Hub starts, their running servers are stopped and their roles, groups and administrator's
        rights are taken away.
        """
    ).tag(config=True)

    allow_all = Bool(
        False,
        help="""
        Let everybody in who can authenticate.

        Right where authentication itself is limited to your people; quite wrong with a service that knows the
        whole world.
        """,
    ).tag(config=True, allow_config=True)

    allow_existing_users = Bool(
        help="""
        Let everybody in who is known to the Hub already, by having been added on the admin page or through
        the API.

        True by default when `allowed_users` is set: then the list in the configuration is where the Hub
        begins, and administrators add to it while it runs. A name taken out of the configuration stays
        allowed until the user is deleted.
        """
    ).tag(config=True, allow_config=True)

    @default("allow_existing_users")
    def _default_allow_existing_users(self) -> bool:
        return bool(self.allowed_users)

    any_allow_config = Bool(
        help="""
        Whether any setting lets somebody in. When it is false the Hub warns as it starts.

        By default it looks at all settings whose names begin with `allow`. Set it to True in an authenticator
        that decides by other means, to silence the warning.
        """
    ).tag(config=True)

    @default("any_allow_config")
    def _whether_a_setting_allows(self) -> bool:
        for name, trait in self.traits(config=True).items():
            if (name.startswith("allow") or trait.metadata.get("allow_config")) and getattr(self, name):
                return True
        return False

    whitelist = Set(
        help="Deprecated: the old name of `allowed_users`, which it replaces when set."
    ).tag(config=True)

    @default("whitelist")
    def _default_whitelist(self) -> Any:
        return self.allowed_users

    @observe("whitelist")
    def _use_whitelist(self, change: Any) -> None:
        # Suites of plugins compare this sentence.
        self.log.warning(
            "%s.whitelist is deprecated in JupyterHub 1.2, use %s.allowed_users instead",
            type(self).__name__, type(self).__name__,
        )
        self.allowed_users = change.new

    @validate("admin_users", "allowed_users", "blocked_users")
    def _hint_at_missing_list(self, proposal: Any) -> Any:
        short = sorted(name for name in proposal.value if isinstance(name, str) and len(name) == 1)
        if short:
            self.log.warning(
                "%s.%s contains names of a single letter: %s. If a single name was meant, write it as "
                "{'name'}.",
                type(self).__name__, proposal.trait.name, ", ".join(short),
            )
        return proposal.value

    # Names

    username_pattern = Unicode(
        help="""
        A regular expression that user names have to match, from their beginning on.

        Nothing is assumed about their end: close the expression with `$` if more must not follow.
        """
    ).tag(config=True)

    username_regex = AnyTrait(help="The compiled `username_pattern`, or None.")

    @default("username_regex")
    def _default_username_regex(self) -> Any:
        return re.compile(self.username_pattern) if self.username_pattern else None

    @observe("username_pattern")
    def _compile_username_pattern(self, change: Any) -> None:
        self.username_regex = re.compile(change.new) if change.new else None

    username_map = Dict(
        help="""
        Other names for users, by the name they log in with in lower case.

        What the dictionary gives is taken as it is, upper case included.
        """
    ).tag(config=True)

    # How log-in goes

    auto_login = Bool(
        False,
        help="""
        Go straight to the place where log-in happens, without a page that offers it.

        For authenticators that send people elsewhere. After log-out a page of our own is shown then, since
        visiting the log-in page would log in again.
        """,
    ).tag(config=True)

    auto_login_oauth2_authorize = Bool(
        False,
        help="""
        Like `auto_login`, for visitors who come from a service or server that asks the Hub who they are;
        whoever opens the Hub's own page sees the page with the button.
        """,
    ).tag(config=True)

    login_service = Unicode(help="Name of the place where people log in, for the text on the button.")

    custom_html = Unicode(help="HTML in place of the log-in form; a template of its own.")

    request_otp = Bool(
        False, help="Ask for a one-time password as well, on the log-in form."
    ).tag(config=True)

    otp_prompt = AnyTrait(
        "OTP:", allow_none=True, help="The words beside the field of the one-time password."
    ).tag(config=True)

    # What is remembered

    enable_auth_state = Bool(
        False,
        help="""
        Keep what the log-in service said about a user (tokens, attributes), encrypted, so that it is there
        when a server starts.

        Needs an encryption key, in the environment variable JUPYTERHUB_CRYPT_KEY or in `CryptKeeper.keys`;
        without one the Hub does not start. `openssl rand -hex 32` makes one.
        """,
    ).tag(config=True)

    reconcile_auth_state_hook = AnyTrait(
        None,
        allow_none=True,
        help="""
        A function that decides what is kept when there is a newer and an older state.

        It is called as `hook(authenticator, auth_model, existing_auth_state)` before anything is stored,
        where the existing state is None at first, and returns the state to keep. It may be a coroutine
        function, and is used only with `enable_auth_state`.
        """,
    ).tag(config=True)

    post_auth_hook = AnyTrait(
        None,
        allow_none=True,
        help="""
        A function that has the last word about a log-in that would succeed.

        It is called as `hook(authenticator, handler, authentication)` and returns the dictionary it was
        given, changed or not; with anything false the log-in fails. It may be a coroutine function.
        """,
    ).tag(config=True)

    auth_refresh_age = Integer(
        300,
        help="""
        Seconds that a log-in is good for before the authenticator is asked again whether it still stands.

        It is asked at the user's next request, never by itself. 0 means never to ask again, also not before
        starting or stopping a server.
        """,
    ).tag(config=True)

    auth_refresh_strict = Bool(
        False,
        help="""
        Refuse also requests made with a token, or by somebody else, when the user's log-in no longer stands.

        Without it, only the user's own browser has to log in again.
        """,
    ).tag(config=True)

    refresh_pre_spawn = Bool(
        False,
        help="""
        Ask the authenticator again before each start of a server, however fresh the log-in is.

        For servers that receive credentials which must not be about to expire.
        """,
    ).tag(config=True)

    refresh_pre_stop = Bool(
        False, help="Ask the authenticator again before each stop of a server, however fresh the log-in is."
    ).tag(config=True)

    # Groups and roles

    manage_groups = Bool(
        False,
        help="""
        Let the authenticator decide which groups a user is in: at each log-in, membership becomes what it
        says.

        Then groups cannot be filled by other means, such as the admin page or `load_groups`.
        """,
    ).tag(config=True)

    manage_roles = Bool(
        False,
        help="""
        Let the authenticator decide which roles a user has: at each log-in, they become exactly what it says.

        That includes the role `user`, without which somebody can do next to nothing. `load_roles` may then no
        longer name users or groups.
        """,
    ).tag(config=True)

    reset_managed_roles_on_startup = Bool(
        False,
        help="""
        When the Hub starts, take back all roles that came from the authenticator and that it does not name
        again.

        The authenticator has to be one that can list its roles without anybody logging in.
        """,
    ).tag(config=True)

    delete_invalid_users = Bool(
        False,
        help="""
        Delete users whom the authenticator refuses when the Hub starts, instead of logging the refusal.

        With local accounts, for instance, users whose account was removed. Make a backup before you turn this
        on.
        """,
    ).tag(config=True)

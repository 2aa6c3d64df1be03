"""What `jupyterhub` does beside running: tokens, upgrades, a configuration file to begin with (cli §1.2, §1.3)."""

import dataclasses
import getpass
import os
import shlex
import sys
from typing import Any

from traitlets import Dict, TraitError, Unicode
from traitlets.config import Application

from .core.errors import HubError
from .store import provisioning
from .store import tokens as token_store
from .store import users as user_store
from .store.database import Database

__all__ = ["NewToken", "UpgradeDB", "write_config_file"]

COMMON_ALIASES = {
    "log-level": "Application.log_level",
    "f": "JupyterHub.config_file",
    "config": "JupyterHub.config_file",
    "db": "JupyterHub.db_url",
}
COMMON_FLAGS: dict[str, Any] = {
    "debug": ({"Application": {"log_level": 10}}, "Log everything there is to say."),
    "show-config": ({"Application": {"show_config": True}}, "Print the configuration and end."),
    "show-config-json": ({"Application": {"show_config_json": True}}, "Print the configuration as JSON and end."),
}


class _Command(Application):
    """A command that works on the configuration and the database of a Hub, also beside one that runs."""

    aliases = Dict(COMMON_ALIASES)
    flags = Dict(COMMON_FLAGS)

    def initialize(self, argv: Any = None) -> None:
        from .app import JupyterHub

        # So that the command line may set what belongs to the Hub.
        self.classes = [*self.classes, JupyterHub]
        super().initialize(argv)
        self.hub = JupyterHub(parent=self)
        self.hub.cli_config = self.cli_config
        self.hub.load_configuration()
        self.hub.init_logging()
        self._loaded_config_files = self.hub._loaded_config_files
        # What --show-config prints is the whole of it.
        self.update_config(self.hub.config)

    def refuse(self, sentence: object) -> None:
        """End with a sentence on stderr and status 1."""
        print(sentence, file=sys.stderr)
        self.exit(1)


class NewToken(_Command):
    """Print a new API token for a user."""

    name = "jupyterhub-token"
    description = "Print a new API token for a user, by default for whoever runs this: jupyterhub token [username]"
    examples = "jupyterhub token ada"

    user_name = Unicode(help="The user.")

    def parse_command_line(self, argv: Any = None) -> None:
        super().parse_command_line(argv)
        if len(self.extra_args) > 1:
            self.refuse(f"One user name is expected, not {len(self.extra_args)}: {shlex.join(self.extra_args)}")
        self.user_name = self.extra_args[0] if self.extra_args else getpass.getuser()

    def start(self) -> None:
        """Provision as a start does, then issue the token and print it."""
        from . import wiring

        hub = self.hub
        try:
            # Beside a Hub that runs: its lock on the file is not asked for.
            database = Database.open(hub.db_url, engine_kwargs=dict(hub.db_kwargs), exclusive=False)
        except HubError as error:
            self.refuse(error)
            return
        try:
            hub.init_hub()
            hub.init_authenticator()
            hub._service_map = wiring.build_services(hub)
            wanted = dataclasses.replace(wiring.wanted_provisioning(hub, []), change_services=False)
            database.run_sync(provisioning.provision, wanted)
            user = database.run_sync(user_store.find, self.user_name)
            if user is None:
                self.refuse(f"There is no user {self.user_name!r}. Users are made at log-in, or by allowed_users")
                return
            text, _ = database.run_sync(
                token_store.issue, user_id=user.id, scopes=["inherit"], note="command-line generated"
            )
            print(text)
        except (HubError, TraitError, ValueError) as error:
            self.refuse(error)
        finally:
            database.close()


class UpgradeDB(_Command):
    """Bring the database up to date with this release."""

    name = "jupyterhub-upgrade-db"
    description = "Bring the database up to date with this release. An SQLite file is copied first."

    def start(self) -> None:
        """Upgrade if there is something to upgrade."""
        from .dbutil import upgrade_if_needed

        try:
            upgrade_if_needed(self.hub.db_url, engine_kwargs=dict(self.hub.db_kwargs))
        except HubError as error:
            self.refuse(error)


def write_config_file(app: Any) -> None:
    """Write a file with every setting explained and commented out.

    An existing file is kept unless somebody says yes. Ends with status 1 when the directory does not exist.
    """
    path = os.path.abspath(os.path.expanduser(app.config_file))
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        app.fail(f"The directory {directory} does not exist")
        return
    if os.path.exists(path) and not (app.answer_yes or _agrees(f"{path} exists. Overwrite it? [y/N] ")):
        return
    text = app.generate_config_file()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"Wrote {path}")


def _agrees(question: str) -> bool:
    """Ask until there is a yes or a no; nothing is a no."""
    while True:
        try:
            answer = input(question).strip().lower() or "n"
        except EOFError:
            return False
        if answer[0] in "yn":
            return answer[0] == "y"

"""What `jupyterhub` does beside running: tokens, upgrades, a configuration file to start from (cli §1.2, §1.3)."""

import getpass
import os
import sys
from typing import Any

from traitlets import Dict, Unicode
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

    def hub_application(self) -> Any:
        """Return the Hub's application with its configuration read and nothing started."""
        from .app import JupyterHub

        hub = JupyterHub(parent=self)
        hub.log = self.log
        hub.cli_config = self.cli_config
        hub.load_configuration()
        return hub


class NewToken(_Command):
    """Issue an API token for a user."""

    name = "jupyterhub-token"
    description = "Issue an API token for a user and print it: jupyterhub token [username]"
    user_name = Unicode(help="The user; by default whoever runs the command.")

    def parse_command_line(self, argv: Any = None) -> None:
        super().parse_command_line(argv)
        if len(self.extra_args) > 1:
            print("jupyterhub token takes one user name", file=sys.stderr)
            self.exit(1)
        self.user_name = self.extra_args[0] if self.extra_args else getpass.getuser()

    def start(self) -> None:
        hub = self.hub_application()
        try:
            # Beside a Hub that runs: its lock on the file is not asked for.
            database = Database.open(hub.db_url, engine_kwargs=dict(hub.db_kwargs), exclusive=False)
        except HubError as error:
            print(error, file=sys.stderr)
            self.exit(1)
            return
        try:
            from . import wiring

            hub.init_hub()
            hub.init_authenticator()
            hub._service_map = wiring.build_services(hub)
            database.run_sync(provisioning.provision, wiring.wanted_provisioning(hub, []))
            user = database.run_sync(user_store.find, self.user_name)
            if user is None:
                print(f"There is no user {self.user_name!r}", file=sys.stderr)
                self.exit(1)
                return
            text, _ = database.run_sync(
                token_store.issue, user_id=user.id, scopes=["inherit"], note="command-line generated"
            )
            print(text)
        except HubError as error:
            print(error, file=sys.stderr)
            self.exit(1)
        finally:
            database.close()


class UpgradeDB(_Command):
    """Bring the database to the present schema."""

    name = "jupyterhub-upgrade-db"
    description = "Bring the database to the present schema. An SQLite file is backed up first."

    def start(self) -> None:
        from .dbutil import upgrade_if_needed

        hub = self.hub_application()
        try:
            upgrade_if_needed(hub.db_url, engine_kwargs=dict(hub.db_kwargs))
        except HubError as error:
            print(error, file=sys.stderr)
            self.exit(1)


def write_config_file(app: Any) -> None:
    """Write a file with every setting explained and commented out.

    An existing file is kept unless somebody says yes. Ends with status 1 when the directory does not exist.
    """
    path = os.path.abspath(os.path.expanduser(app.config_file))
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        app.fail(f"The directory {directory} does not exist")
        return
    if os.path.exists(path) and not app.answer_yes:
        answer = ""
        while not answer.lower().startswith(("y", "n")):
            try:
                answer = input(f"{path} exists. Overwrite it? [y/N] ") or "n"
            except EOFError:
                answer = "n"
        if answer.lower().startswith("n"):
            return
    text = app.generate_config_file()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"Wrote {path}")

"""Reading configuration files, and saying what is wrong with them (config §1)."""

import os
from types import TracebackType
from typing import Any

from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, JSONFileConfigLoader, PyFileConfigLoader

from ..core.known_plugins import find_by_import
from .mistakes import check_values, explain_wrong_value, find_mistakes, find_places

DEFAULT_CONFIG_FILE = "jupyterhub_config.py"


def _within(file: str, traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback from where it enters a file on: how the Hub came to read it tells its author nothing."""
    rest = traceback
    while rest is not None and rest.tb_frame.f_code.co_filename != file:
        rest = rest.tb_next
    return rest


class ConfigurationFiles:
    """What an application needs to read its configuration. Mixed into one."""

    # Of the application this is mixed into.
    classes: Any
    cli_config: Any
    config: Any
    config_file: Any
    exit: Any
    log: Any
    section_names: Any
    traits: Any
    update_config: Any
    authenticator_class: Any
    proxy_class: Any
    spawner_class: Any
    _loaded_config_files: Any

    def load_configuration(self) -> None:
        """Read the configuration file and say what in it is not a setting. Ends with status 1 when it cannot."""
        path = os.path.abspath(os.path.expanduser(self.config_file))
        if os.path.isdir(path):
            self.fail(f"{path} is a directory; -f takes a configuration file")
        elif os.path.exists(path):
            self.load_config_file(os.path.basename(path), path=os.path.dirname(path))
        elif self.config_file != DEFAULT_CONFIG_FILE:
            self.fail(f"The configuration file {path} does not exist")
        else:
            self.log.debug("There is no %s; the defaults hold", path)
        self._mention_mistakes()

    def load_config_file(self, filename: str, path: Any = None) -> None:
        """Execute `<stem>.py`, then merge `<stem>.json`, whatever the extension given (config §1.1).

        What the command line says wins over both. A file that raises ends the start with status 1.
        """
        stem = os.path.splitext(filename)[0]
        merged = Config()
        loaded: list[str] = []
        for loader_class, extension in ((PyFileConfigLoader, ".py"), (JSONFileConfigLoader, ".json")):
            loader = loader_class(stem + extension, path=path, log=self.log)
            try:
                found = loader.load_config()
            except ConfigFileNotFound:
                continue
            except Exception as error:
                self.log.critical(
                    "The configuration file %s cannot be read", loader.full_filename,
                    exc_info=(type(error), error, _within(loader.full_filename, error.__traceback__)),
                )
                if isinstance(error, ModuleNotFoundError) and (package := find_by_import(error.name or "")):
                    self.log.critical("It imports %s: %s", error.name, package.advice)
                self.exit(1)
            for section, names in merged.collisions(found).items():
                self.log.warning(
                    "%s is given in %s and in %s, which wins", ", ".join(f"{section}.{name}" for name in names),
                    loaded[0], loader.full_filename,
                )
            merged.merge(found)
            loaded.append(loader.full_filename)
        if not loaded:
            self.log.warning("Nothing was read: beside %s there is neither %s.py nor %s.json", filename, stem, stem)
        self._loaded_config_files = [*self._loaded_config_files, *loaded]
        if "JupyterHubApp" in merged:
            self.log.warning("The section c.JupyterHubApp is old; it is called c.JupyterHub")
            old = merged.pop("JupyterHubApp")
            old.merge(merged.get("JupyterHub", Config()))
            merged.JupyterHub = old
        merged.merge(self.cli_config)
        try:
            self.update_config(merged)
        except TraitError as error:
            self.fail(self._explained(error))

    def _explained(self, error: Exception) -> str:
        return f"A setting has a value that is not possible. {self._with_place(error)}"

    def _with_place(self, error: Exception) -> str:
        return explain_wrong_value(error, find_places(self._loaded_config_files))

    def _load_config(self, cfg: Any, section_names: Any = None, traits: Any = None) -> None:
        # traitlets would warn about unknown names at every look at the configuration, without saying where they stand.
        known, quiet = self.traits(config=True), cfg.copy()
        for section in section_names or self.section_names():
            if section in quiet:
                quiet[section] = Config(
                    {name: value for name, value in quiet[section].items() if name in known or name[:1].isupper()}
                )
        super()._load_config(quiet, section_names=section_names, traits=traits)  # type: ignore[misc]

    def _mention_mistakes(self) -> None:
        if not any(section[:1].isupper() for section in self.config):
            return
        try:
            classes = [*self.classes, self.authenticator_class, self.spawner_class, self.proxy_class]
        except TraitError as error:
            self.fail(self._explained(error))
            return
        sections = ("EventLogger", "Application", "SingletonConfigurable", "LoggingConfigurable", "Configurable")
        for mistake in find_mistakes(self.config, classes, find_places(self._loaded_config_files), sections):
            self.log.warning("%s", mistake)
        # Authenticator and proxy are made at the start, and check theirs themselves; spawners are made much later.
        try:
            check_values(self.config, self.spawner_class)
        except TraitError as error:
            self.fail(self._explained(error))

    def fail(self, sentence: object, status: int = 1) -> None:
        """End with a sentence for whoever started the Hub."""
        self.log.critical("%s", sentence)
        self.exit(status)

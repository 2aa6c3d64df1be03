"""Packages whose classes have a short name here, and the extra of this distribution that brings each of them in.

What a package registers itself (its entry points) goes before this table: the table lends a name to classes that are
registered nowhere, and tells what to install where a name is known and its package is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["KNOWN_PACKAGES", "KnownPackage", "find_by_import", "find_by_module", "find_by_name", "names_in"]


@dataclass(frozen=True)
class KnownPackage:
    """A distribution with classes for one setting, such as `spawner_class`.

    `classes` leads from short names, in lower case, to import paths.
    """

    distribution: str
    extra: str
    classes: Mapping[str, str]

    @property
    def modules(self) -> set[str]:
        """The top-level modules that the distribution brings."""
        return {path.partition(".")[0] for path in self.classes.values()}

    @property
    def advice(self) -> str:
        """How to get it, for whoever reads the log."""
        return (
            f"the package {self.distribution} is not installed where the Hub runs. "
            f'Install it with: pip install "jupyterhub[{self.extra}]"'
        )


def _oauth_classes() -> dict[str, str]:
    """Two classes per provider: one for people who need no account on this machine, one for people who have one."""
    providers = {
        "auth0": "auth0.{}Auth0OAuthenticator",
        "azuread": "azuread.{}AzureAdOAuthenticator",
        "bitbucket": "bitbucket.{}BitbucketOAuthenticator",
        "cilogon": "cilogon.{}CILogonOAuthenticator",
        "generic-oauth": "generic.{}GenericOAuthenticator",
        "github": "github.{}GitHubOAuthenticator",
        "gitlab": "gitlab.{}GitLabOAuthenticator",
        "globus": "globus.{}GlobusOAuthenticator",
        "google": "google.{}GoogleOAuthenticator",
        "openshift": "openshift.{}OpenShiftOAuthenticator",
    }
    classes = {"mediawiki": "oauthenticator.mediawiki.MWOAuthenticator"}
    for name, path in providers.items():
        classes[name] = "oauthenticator." + path.format("")
        classes[f"local-{name}"] = "oauthenticator." + path.format("Local")
    return classes


#: By the entry-point group in which such classes are registered.
KNOWN_PACKAGES: dict[str, tuple[KnownPackage, ...]] = {
    "jupyterhub.spawners": (
        KnownPackage(
            "dockerspawner",
            "docker",
            {
                "docker": "dockerspawner.DockerSpawner",
                "docker-swarm": "dockerspawner.SwarmSpawner",
                "docker-system-user": "dockerspawner.SystemUserSpawner",
                "swarm": "dockerspawner.SwarmSpawner",
            },
        ),
        KnownPackage(
            "jupyterhub-kubespawner",
            "kubernetes",
            {"kubernetes": "kubespawner.KubeSpawner", "kube": "kubespawner.KubeSpawner"},
        ),
        KnownPackage(
            "batchspawner",
            "batch",
            {
                "condor": "batchspawner.CondorSpawner",
                "gridengine": "batchspawner.GridengineSpawner",
                "htcondor": "batchspawner.CondorSpawner",
                "lsf": "batchspawner.LsfSpawner",
                "moab": "batchspawner.MoabSpawner",
                "pbs": "batchspawner.PBSSpawner",
                "sge": "batchspawner.GridengineSpawner",
                "slurm": "batchspawner.SlurmSpawner",
                "torque": "batchspawner.TorqueSpawner",
            },
        ),
        KnownPackage(
            "jupyterhub-systemdspawner",
            "systemd",
            {"systemd": "systemdspawner.SystemdSpawner", "systemdspawner": "systemdspawner.SystemdSpawner"},
        ),
        KnownPackage("sudospawner", "sudo", {"sudo": "sudospawner.SudoSpawner"}),
    ),
    "jupyterhub.authenticators": (
        KnownPackage("oauthenticator", "oauth", _oauth_classes()),
        KnownPackage(
            "jupyterhub-ldapauthenticator",
            "ldap",
            {
                "ldap": "ldapauthenticator.LDAPAuthenticator",
                "ldapauthenticator": "ldapauthenticator.LDAPAuthenticator",
            },
        ),
        KnownPackage("jupyterhub-nativeauthenticator", "native", {"native": "nativeauthenticator.NativeAuthenticator"}),
        KnownPackage(
            "jupyterhub-firstuseauthenticator",
            "firstuse",
            {
                "firstuse": "firstuseauthenticator.FirstUseAuthenticator",
                "firstuseauthenticator": "firstuseauthenticator.FirstUseAuthenticator",
            },
        ),
        KnownPackage("jupyterhub-tmpauthenticator", "tmp", {"tmp": "tmpauthenticator.TmpAuthenticator"}),
        KnownPackage(
            "jupyterhub-ltiauthenticator",
            "lti",
            {
                "lti11": "ltiauthenticator.lti11.auth.LTI11Authenticator",
                "lti13": "ltiauthenticator.lti13.auth.LTI13Authenticator",
            },
        ),
    ),
    "jupyterhub.proxies": (
        KnownPackage(
            "jupyterhub-traefik-proxy",
            "traefik",
            {
                "traefik": "jupyterhub_traefik_proxy.fileprovider.TraefikFileProviderProxy",
                "traefik_consul": "jupyterhub_traefik_proxy.consul.TraefikConsulProxy",
                "traefik_etcd": "jupyterhub_traefik_proxy.etcd.TraefikEtcdProxy",
                "traefik_file": "jupyterhub_traefik_proxy.fileprovider.TraefikFileProviderProxy",
                "traefik_redis": "jupyterhub_traefik_proxy.redis.TraefikRedisProxy",
                "traefik_toml": "jupyterhub_traefik_proxy.toml.TraefikTomlProxy",
            },
        ),
    ),
}


def find_by_name(group: str, name: str) -> KnownPackage | None:
    """Return the package whose class has this short name, in upper or lower case."""
    return next((package for package in KNOWN_PACKAGES.get(group, ()) if name.lower() in package.classes), None)


def find_by_module(group: str, path: str) -> KnownPackage | None:
    """Return the package that an import path such as ``dockerspawner.DockerSpawner`` leads into."""
    top = path.partition(".")[0]
    return next((package for package in KNOWN_PACKAGES.get(group, ()) if top in package.modules), None)


def find_by_import(module: str) -> KnownPackage | None:
    """Return the package of any setting that brings a module such as ``ldapauthenticator``."""
    return next((found for group in KNOWN_PACKAGES if (found := find_by_module(group, module))), None)


def names_in(group: str) -> set[str]:
    """Return the short names of a setting's classes, whether their packages are installed or not."""
    return {name for package in KNOWN_PACKAGES.get(group, ()) for name in package.classes}

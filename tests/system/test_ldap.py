"""People of a real LDAP directory, by way of ldapauthenticator as it is released."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .hub_process import HubProcess, wait_for
from .ldap_server import BASE, PEOPLE, SEARCHER, SEARCHER_PASSWORD, LDAPServer
from .packages_environment import packages_environment
from .person import Person
from .test_dataplane_tls import Authority
from .upstream import NotAvailable

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/authentication/ldap.py"

HERE = """
import socket
c.LDAPAuthenticator.server_address = "localhost"
c.LDAPAuthenticator.server_port = {port}
c.LDAPAuthenticator.tls_kwargs["ca_certs_file"] = {authority!r}
c.Authenticator.allow_all = False
socket.setdefaulttimeout(2)
"""

#: The package's own class. People are looked up by another attribute than the one in their name; any character may be
#: typed.
LOOKED_UP = """
c.JupyterHub.authenticator_class = "ldap"
c.LDAPAuthenticator.tls_strategy = "on_connect"
c.LDAPAuthenticator.server_port = {tls_port}
c.LDAPAuthenticator.bind_dn_template = []
c.LDAPAuthenticator.lookup_dn = True
c.LDAPAuthenticator.lookup_dn_search_user = {searcher!r}
c.LDAPAuthenticator.lookup_dn_search_password = {searcher_password!r}
c.LDAPAuthenticator.user_search_base = {base!r}
c.LDAPAuthenticator.user_attribute = "uid"
c.LDAPAuthenticator.lookup_dn_user_dn_attribute = "cn"
c.LDAPAuthenticator.valid_username_regex = r"(?s).*"
c.LDAPAuthenticator.allowed_groups = []
c.Authenticator.allow_all = True
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def directory(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LDAPServer]:
    key, certificate = authority.issue("ldap")
    place = tmp_path_factory.mktemp("ldap")
    try:
        server = LDAPServer(place / "slapd", key=key, certificate=certificate, authority=authority.file)
    except NotAvailable as reason:
        pytest.skip(f"NOT RUN: {reason}")
    server.start()
    yield server
    server.stop()


def start_hub(place: Path, directory: LDAPServer, authority: str, more: str = "") -> Iterator[HubProcess]:
    try:
        commands = packages_environment()
    except NotAvailable as reason:
        pytest.skip(f"NOT RUN, as the package could not be had: {reason}")
    text = f"load_subconfig({str(EXAMPLE)!r})" + HERE + more
    values = {"searcher": SEARCHER, "searcher_password": SEARCHER_PASSWORD, "base": BASE, "authority": authority}
    for name, value in {**values, "port": directory.port, "tls_port": directory.tls_port}.items():
        text = text.replace(f"{{{name}!r}}", repr(value)).replace(f"{{{name}}}", str(value))
    hub = HubProcess(place, text, bin_dir=commands, env={"TEST_HUB_DIRECTORY": str(place)})
    try:
        hub.start()
        yield hub
    finally:
        hub.clean_up()


@pytest.fixture(scope="module")
def hub(
    directory: LDAPServer, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HubProcess]:
    """The example of the documentation with this directory."""
    yield from start_hub(tmp_path_factory.mktemp("hub"), directory, authority.file)


@pytest.fixture(scope="module")
def looking_hub(
    directory: LDAPServer, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HubProcess]:
    yield from start_hub(tmp_path_factory.mktemp("looking"), directory, authority.file, LOOKED_UP)


def assert_refused(person: Person, password: str) -> None:
    """The form again, with the reason that says nothing about which of the two was wrong."""
    answer = person.log_in(password)
    assert answer.status_code == 403 and "Wrong user name or password." in answer.text, answer.text[-2000:]
    assert not person.is_logged_in()


def names(hub: HubProcess) -> set[str]:
    return {user["name"] for user in hub.api("GET", "/users").json()}


def test_a_member_logs_in_over_starttls(hub: HubProcess, directory: LDAPServer) -> None:
    lara = Person(hub, "lara")
    assert lara.log_in(PEOPLE["lara"]).status_code == 200
    assert lara.is_logged_in()
    asked = directory.log()
    bind = re.search(r"conn=(\d+) op=\d+ BIND dn=\"uid=lara,ou=people", asked)
    assert bind, asked
    # The password went over the connection that had been encrypted before, and the group was asked for on it.
    before, after = asked[: bind.start()], asked[bind.start() :]
    assert re.search(rf"conn={bind[1]} op=\d+ STARTTLS", before), asked
    assert re.search(rf"conn={bind[1]} op=\d+ SRCH base=\"cn=staff,ou=groups", after), asked


def test_groups_and_administrators_come_from_the_directory(hub: HubProcess) -> None:
    for name in ("lara", "grace"):
        assert Person(hub, name).log_in(PEOPLE[name]).status_code == 200
    lara, grace = hub.user("lara"), hub.user("grace")
    assert (lara["groups"], lara["admin"]) == (["staff"], False)
    assert (sorted(grace["groups"]), grace["admin"]) == (["admins", "staff"], True)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("lara", "not hers"),
        # A directory takes a bind without a password for one by nobody, and accepts it.
        ("lara", ""),
        ("lara", "  "),
        ("nobody", "any"),
        ("otto", PEOPLE["otto"]),
    ],
    ids=["wrong", "empty", "blank", "unknown", "in none of the groups"],
)
def test_others_are_refused(hub: HubProcess, name: str, password: str) -> None:
    assert_refused(Person(hub, name), password)
    assert names(hub) <= {"lara", "grace"}


INJECTIONS = ["*", "lar*", "a)(uid=*", "*)(uid=*))(|(uid=*", "lara)(cn=*", "lara,ou=people", "la\0ra", "lara\\", "\\6cara"]


@pytest.mark.parametrize("name", INJECTIONS)
def test_names_that_mean_something_to_a_directory_are_refused(hub: HubProcess, name: str) -> None:
    assert_refused(Person(hub, name), PEOPLE["lara"])


def test_a_person_is_looked_up_over_tls(looking_hub: HubProcess, directory: LDAPServer) -> None:
    grace = Person(looking_hub, "grace")
    assert grace.log_in(PEOPLE["grace"]).status_code == 200 and grace.is_logged_in()
    assert 'filter="(uid=grace)"' in directory.log()


@pytest.mark.parametrize("name", INJECTIONS)
def test_a_name_does_not_change_what_is_looked_up(looking_hub: HubProcess, directory: LDAPServer, name: str) -> None:
    """No character is refused here before the directory is asked, and still it is asked for one name literally."""
    already = len(directory.log())
    assert_refused(Person(looking_hub, name), PEOPLE["lara"])
    filters = re.findall(r'filter="(.*)"', directory.log()[already:])
    # The package also reads the schema, over each connection.
    (looked_up,) = [text for text in filters if not text.startswith("(objectClass=")]
    assert re.fullmatch(r"\(uid=(?:[^()*\\]|\\[0-9A-Fa-f]{2})*\)", looked_up), looked_up
    assert names(looking_hub) <= {"grace"}


def test_a_token_is_given_for_a_password_but_not_for_a_name_that_was_made_up(hub: HubProcess) -> None:
    """The REST API takes any character in a name, which a form does not."""
    assert Person(hub, "lara").log_in(PEOPLE["lara"]).status_code == 200
    for name, expected in [("lara", 201), ("lara\0", 403), ("lara\n", 403), ("lar*", 403)]:
        body = {"auth": {"username": name, "password": PEOPLE["lara"]}}
        assert hub.request("POST", "/hub/api/users/lara/tokens", body).status == expected, repr(name)


def test_without_the_directory_people_are_told_that_it_is_not_their_password(
    hub: HubProcess, directory: LDAPServer
) -> None:
    lara, visitor = Person(hub, "lara"), Person(hub, "lara")
    assert lara.log_in(PEOPLE["lara"]).status_code == 200
    directory.stop()
    try:
        answer = visitor.log_in(PEOPLE["lara"])
        assert answer.status_code == 500
        assert "could not be checked" in answer.text and "Wrong user name or password" not in answer.text
        assert 'name="password"' in answer.text
        assert not visitor.is_logged_in()
        assert "PatientLDAPAuthenticator could not check a log-in" in hub.log_tail(200)
        assert PEOPLE["lara"] not in hub.log_path.read_text()
        # Whoever is in stays in.
        assert lara.is_logged_in()
    finally:
        directory.start()
    assert visitor.log_in(PEOPLE["lara"]).status_code == 200 and visitor.is_logged_in()


def test_while_the_directory_says_nothing_the_others_go_on(hub: HubProcess, directory: LDAPServer) -> None:
    lara = Person(hub, "lara")
    with ThreadPoolExecutor(1) as pool:
        with directory.silent():
            attempt = pool.submit(lara.log_in, PEOPLE["lara"])
            wait_for(lambda: directory.has_waiting_connection(), "the Hub has asked the directory")
            assert hub.request("GET", "/hub/login", timeout=1).status == 200
            assert not attempt.done()
            answer = attempt.result(20)
        assert answer.status_code == 500 and "could not be checked" in answer.text and not lara.is_logged_in()
    assert lara.log_in(PEOPLE["lara"]).status_code == 200


def test_a_directory_with_the_certificate_of_another_authority_gets_no_password(
    directory: LDAPServer, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    for hub in start_hub(tmp_path / "hub", directory, other.file):
        already = len(directory.log())
        lara = Person(hub, "lara")
        assert lara.log_in(PEOPLE["lara"]).status_code == 500 and not lara.is_logged_in()
        assert "BIND" not in directory.log()[already:]
        assert "certificate verify failed" in hub.log_tail(200)

"""People of a real OpenID Connect provider, by way of oauthenticator as it is released."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from .hub_process import HubProcess, wait_for
from .openid_provider import OpenIDProvider
from .packages_environment import packages_environment
from .person import Person
from .upstream import NotAvailable

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/authentication/openid_connect.py"
PEOPLE = {"ada": ["staff", "admins"], "grace": ["staff", "night shift"], "joan": ["visitors"], "mary": ["staff"]}
#: Seconds for which an access token is good, and after which the Hub asks again.
TOKEN_SECONDS, REFRESH_AGE = 2, 1
START = "/hub/oauth_login?next=%2Fhub%2Fhome"
CALLBACK = "/hub/oauth_callback"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubProcess, OpenIDProvider]]:
    """The example of the documentation with a provider of this machine."""
    directory = tmp_path_factory.mktemp("openid")
    config = f"""
load_subconfig({str(EXAMPLE)!r})
c.Authenticator.allow_all = c.GenericOAuthenticator.allow_all = False
c.GenericOAuthenticator.auth_refresh_age = {REFRESH_AGE}
"""
    try:
        hub = HubProcess(directory / "hub", config, bin_dir=packages_environment())
        provider = OpenIDProvider(directory / "provider", hub.url, PEOPLE, token_seconds=TOKEN_SECONDS)
    except NotAvailable as reason:
        pytest.skip(f"NOT RUN, as the packages could not be had: {reason}")
    hub.env.update(
        EXAMPLE_HUB_URL=hub.url,
        EXAMPLE_PROVIDER_URL=provider.url,
        JUPYTERHUB_CRYPT_KEY=secrets.token_hex(32),
        OAUTH_CLIENT_SECRET="hub-secret",
        TEST_HUB_DIRECTORY=str(directory / "hub"),
    )
    try:
        provider.start()
        hub.start()
        yield hub, provider
    finally:
        hub.clean_up()
        provider.stop()


@pytest.fixture
def hub(place: tuple[HubProcess, OpenIDProvider]) -> HubProcess:
    return place[0]


@pytest.fixture
def provider(place: tuple[HubProcess, OpenIDProvider]) -> OpenIDProvider:
    place[1].set_people(PEOPLE)
    return place[1]


def logged_in(hub: HubProcess, provider: OpenIDProvider, name: str) -> Person:
    person = Person(hub, name)
    page = provider.visit(person, START)
    assert page.status_code == 200 and page.url == f"{hub.url}/hub/home", page.text[-2000:]
    return person


def callback_of(hub: HubProcess, provider: OpenIDProvider, person: Person) -> str:
    """Go as far as the provider's answer, and return the address to which it sends the person."""
    address = provider.visit(person, START, until=CALLBACK).headers["Location"]
    assert address.startswith(hub.url + CALLBACK), address
    return address


def test_the_code_flow_with_proof_key_from_the_log_in_page_to_home(hub: HubProcess, provider: OpenIDProvider) -> None:
    page = Person(hub, "ada").get("/hub/login?next=%2Fhub%2Fhome")
    assert page.status_code == 200 and "Example" in page.text and "/hub/oauth_login?next=%2Fhub%2Fhome" in page.text
    logged_in(hub, provider, "ada")
    asked, granted = provider.events("authorization")[-1], provider.events("grant")[-1]
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert len(asked["code_challenge"]) == 43 and len(granted["verifier"]) >= 43
    assert granted["type"] == "authorization_code"
    # Neither the secret of the Hub nor the code's verifier went through the browser.
    assert "hub-secret" not in str(asked) and granted["verifier"] not in str(asked)


def test_groups_are_those_of_the_provider_and_one_of_them_administers(hub: HubProcess, provider: OpenIDProvider) -> None:
    logged_in(hub, provider, "ada")
    logged_in(hub, provider, "grace")
    ada, grace = hub.user("ada"), hub.user("grace")
    assert (sorted(ada["groups"]), ada["admin"]) == (["admins", "staff"], True)
    assert (sorted(grace["groups"]), grace["admin"]) == (["night shift", "staff"], False)


def test_who_is_in_none_of_the_groups_is_refused(hub: HubProcess, provider: OpenIDProvider) -> None:
    joan = Person(hub, "joan")
    answer = provider.visit(joan, START)
    assert answer.status_code == 403 and answer.url.startswith(hub.url + CALLBACK)
    assert not joan.is_logged_in()
    assert "joan" not in {user["name"] for user in hub.api("GET", "/users").json()}


def test_an_expired_token_is_renewed_and_brings_new_groups(hub: HubProcess, provider: OpenIDProvider) -> None:
    grace = logged_in(hub, provider, "grace")
    provider.set_people({**PEOPLE, "grace": ["staff", "admins"]})

    def renewed() -> bool:
        assert grace.is_logged_in()
        return provider.events("grant")[-1]["type"] == "refresh_token"

    wait_for(renewed, "the Hub has used the refresh token")
    model = hub.user("grace")
    assert (sorted(model["groups"]), model["admin"]) == (["admins", "staff"], True)
    # The new refresh token works as well as the first: it replaced that one in what the Hub keeps.
    count = len(provider.events("grant"))
    wait_for(lambda: grace.is_logged_in() and len(provider.events("grant")) > count, "and once more")


def test_requests_at_once_use_a_refresh_token_once(hub: HubProcess, provider: OpenIDProvider) -> None:
    """A page asks for several things at a time; the provider takes the second use of a token for theft."""
    ada = logged_in(hub, provider, "ada")
    known, refused = len(provider.events("grant")), len(provider.events("refused"))

    def renewed() -> bool:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda _: ada.is_logged_in(), range(8)))
        return any(each["type"] == "refresh_token" for each in provider.events("grant")[known:])

    wait_for(renewed, "the Hub has used the refresh token")
    assert ada.is_logged_in() and len(provider.events("refused")) == refused


def test_who_has_left_the_provider_is_out_at_the_next_refresh(hub: HubProcess, provider: OpenIDProvider) -> None:
    mary = logged_in(hub, provider, "mary")
    provider.set_people({name: groups for name, groups in PEOPLE.items() if name != "mary"})
    wait_for(lambda: not mary.is_logged_in(), "Mary is out")
    answer = mary.get("/hub/home", allow_redirects=False)
    assert answer.status_code == 302 and "/hub/login" in answer.headers["Location"]


def test_an_answer_that_this_browser_did_not_ask_for_logs_nobody_in(hub: HubProcess, provider: OpenIDProvider) -> None:
    ada, victim = Person(hub, "ada"), Person(hub, "grace")
    address = callback_of(hub, provider, ada)
    # A link with somebody else's code, in a browser that began nothing.
    assert victim.get(address).status_code == 400 and not victim.is_logged_in()
    # And in one that did: the state is not its own.
    own = callback_of(hub, provider, victim)
    answer = victim.get(address)
    assert answer.status_code == 400 and "state mismatch" in answer.text and not victim.is_logged_in()
    # With its own state: the code was asked for with another proof key, and the provider refuses it.
    own = callback_of(hub, provider, victim)
    code, own_code = (parse_qs(urlsplit(each).query)["code"][0] for each in (address, own))
    answer = victim.get(own.replace(own_code, code))
    assert answer.status_code == 500 and "could not be checked" in answer.text and not victim.is_logged_in()
    assert provider.events("refused")[-1]["error"] == "invalid_grant"
    # Codes that were not used are worth something: the log has none of them.
    assert not any(each in hub.log_path.read_text() for each in (code, own_code))


def test_an_answer_counts_once(hub: HubProcess, provider: OpenIDProvider) -> None:
    ada = Person(hub, "ada")
    address = callback_of(hub, provider, ada)
    assert ada.get(address).status_code == 200 and ada.is_logged_in()
    again = Person(hub, "ada")
    assert again.get(address).status_code == 400 and not again.is_logged_in()


def test_a_refusal_by_the_provider_is_told(hub: HubProcess) -> None:
    answer = Person(hub, "ada").get(f"{CALLBACK}?error=access_denied&error_description=You+said+no&state=x")
    assert answer.status_code == 400 and "You said no" in answer.text


def test_log_out_ends_both_sessions(hub: HubProcess, provider: OpenIDProvider) -> None:
    ada = logged_in(hub, provider, "ada")
    stolen = Person(hub, "ada")
    stolen.session.cookies.update(ada.session.cookies)
    assert stolen.is_logged_in()
    page = provider.visit(ada, "/hub/logout")
    assert page.status_code == 200 and page.url == f"{hub.url}/hub/login"
    assert len(provider.events("log-out")) == 1
    assert not ada.is_logged_in() and not stolen.is_logged_in()
    # The provider asks who it is again.
    answer = ada.get(START)
    assert answer.url.startswith(provider.url) and 'name="login"' in answer.text


def test_without_the_provider_people_are_told_that_it_is_not_their_password(
    hub: HubProcess, provider: OpenIDProvider
) -> None:
    inside, coming = logged_in(hub, provider, "grace"), Person(hub, "ada")
    address = callback_of(hub, provider, coming)
    provider.stop()
    try:
        answer = coming.get(address)
        assert answer.status_code == 500 and "Your log-in could not be checked" in answer.text
        assert not coming.is_logged_in()
        assert "GenericOAuthenticator could not check a log-in" in hub.log_path.read_text()
        # A log-in that is due for its check is not believed meanwhile.
        wait_for(lambda: inside.get("/hub/home").status_code == 500, "the check is due")
        assert "Your log-in could not be checked" in inside.get("/hub/home").text
    finally:
        provider.start()
    logged_in(hub, provider, "ada")

"""Users, groups, roles and log-ins: found, listed, changed and deleted, the same on every kind of database."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from jupyterhub import orm
from jupyterhub.core.errors import GroupExists, GroupNotFound, InvalidRequest, RoleNotFound, UserExists
from jupyterhub.core.scopes.algebra import ALL
from jupyterhub.store import audit, grants, groups, loading, logins, runs, tokens, users
from jupyterhub.store.database import Database

from .people import CLIENT, TOKEN, begin, counts, make_user, register

MOMENT = datetime(2026, 5, 1, 12, 30, 15, tzinfo=timezone.utc)


# -- users ----------------------------------------------------------------------------------------------------


async def test_a_new_user_has_the_default_roles_a_server_and_a_secret_of_its_own(database: Database) -> None:
    ada = await database.run(users.create, "ada")
    root = await database.run(users.create, "root1", admin=True)
    assert (ada.roles, root.roles, ada.admin, root.admin) == (("user",), ("admin", "user"), False, True)
    assert len(ada.cookie_id) == 32 and ada.cookie_id != root.cookie_id
    assert ada.created is not None and ada.created.tzinfo is not None
    assert [server.name for server in await database.read(loading.servers_of, ada.id)] == [""]


async def test_a_name_is_not_given_twice(database: Database) -> None:
    ada = await database.run(users.create, "ada")
    await database.run(users.create, "bob")
    with pytest.raises(UserExists):
        await database.run(users.create, "ada")
    with pytest.raises(UserExists):
        await database.run(users.rename, ada.id, "bob")
    await database.run(users.rename, ada.id, "eva")
    assert await database.read(users.find, "ada") is None
    found = await database.read(users.find, "eva")
    assert found is not None and found.id == ada.id


async def test_the_admin_flag_and_the_role_go_together(database: Database) -> None:
    ada = await database.run(users.create, "ada")
    await database.run(users.set_admin, ada.id, True)
    found = await database.read(users.find_by_id, ada.id)
    assert found is not None and (found.admin, found.roles) == (True, ("admin", "user"))
    await database.run(users.set_admin, ada.id, False)
    found = await database.read(users.find_by_id, ada.id)
    assert found is not None and (found.admin, found.roles) == (False, ("user",))


async def test_deleting_a_user_deletes_all_that_is_the_users_and_nothing_else(database: Database) -> None:
    """With a server in motion, tokens, a code, shares given and received; groups and roles stay (database §6)."""
    ada = await database.run(make_user)
    bob = await database.run(make_user, "bob")
    before = await database.read(counts)
    server = await database.run(begin, ada.id)
    assert server.run is not None
    await database.run(register, server.id, server.run.fence)

    def more(session: Session) -> None:
        users.sync_groups(session, ada.id, ["class"])
        tokens.issue(session, scopes=["inherit"], user_id=ada.id)
        session.add(orm.OAuthCode(client_id=CLIENT, code="c", expires_at=1, user_id=ada.id))
        own = session.scalar(select(orm.Spawner.id).where(orm.Spawner.user_id == bob.id))
        session.add(orm.Share(owner_id=ada.id, spawner_id=server.id, user_id=bob.id, scopes=[]))
        session.add(orm.Share(owner_id=bob.id, spawner_id=own, user_id=ada.id, scopes=[]))

    await database.run(more)
    await database.run(users.delete, ada.id)
    after = await database.read(counts)
    assert after == {**before, "spawners": 1}
    assert await database.read(users.find, "ada") is None
    found = await database.read(groups.find, "class")
    assert found is not None and found.users == ()
    assert await database.run(tokens.find_by_token, TOKEN) is None
    await database.run(users.delete, 4711)


async def test_identity_has_everything_that_decides_what_somebody_may_do(database: Database) -> None:
    ada = await database.run(make_user)
    bob = await database.run(make_user, "bob")

    def grant(session: Session) -> None:
        users.sync_groups(session, ada.id, ["class", "lab"])
        role = orm.Role(name="reader", scopes=["read:users"])
        session.add(role)
        session.flush()
        group = orm.Group.find(session, "class")
        assert group is not None
        session.execute(insert(orm.group_role_map).values(group_id=group.id, role_id=role.id))
        own = session.scalar(select(orm.Spawner.id).where(orm.Spawner.user_id == bob.id))
        soon, past = MOMENT.replace(tzinfo=None, year=2999), MOMENT.replace(tzinfo=None, year=2000)
        for number, (recipient, expires) in enumerate(
            [({"user_id": ada.id}, soon), ({"group_id": group.id}, None), ({"user_id": ada.id}, past)]
        ):
            session.add(
                orm.Share(owner_id=bob.id, spawner_id=own, scopes=[f"share{number}"], expires_at=expires, **recipient)
            )

    await database.run(grant)
    for identity in (
        await database.read(users.identify_by_id, ada.id),
        await database.read(users.identify_by_cookie_id, ada.cookie_id),
    ):
        assert identity is not None
        assert (identity.kind, identity.name, identity.groups) == ("user", "ada", ("class", "lab"))
        assert identity.role_scopes == ("read:users", "self")
        assert identity.share_scopes == ("share0", "share1")
    assert await database.read(grants.raw_scopes_of_user, ada.id) == ["read:users", "self"]
    assert await database.read(users.groups_of, "ada") is not None
    assert await database.read(users.identify_by_cookie_id, "nobody's") is None
    assert await database.read(users.identify_by_id, 4711) is None


async def test_a_new_cookie_id_makes_old_cookies_worthless(database: Database) -> None:
    ada = await database.run(make_user)
    await database.run(users.new_cookie_id, ada.id)
    assert await database.read(users.identify_by_cookie_id, ada.cookie_id) is None


async def test_authentication_state_is_kept_as_given(database: Database) -> None:
    ada = await database.run(make_user)
    await database.run(users.set_auth_state, ada.id, b"\x00encrypted")
    assert await database.read(users.get_auth_state, ada.id) == b"\x00encrypted"
    found = await database.read(users.find, "ada")
    assert found is not None and found.has_auth_state
    await database.run(users.set_auth_state, ada.id, None)
    assert await database.read(users.get_auth_state, ada.id) is None


async def test_activity_times_only_move_forward(database: Database) -> None:
    ada = await database.run(make_user)
    server = await database.run(runs.ensure, ada.id, "lab")
    for moment in (MOMENT, MOMENT - timedelta(days=1)):
        await database.run(users.touch_activity, {ada.id: moment}, {server.id: moment})
    found = await database.read(users.find, "ada")
    assert found is not None and found.last_activity == MOMENT
    (_, lab) = await database.read(loading.servers_of, ada.id)
    assert lab.last_activity == MOMENT
    later = MOMENT.astimezone(timezone(timedelta(hours=5))) + timedelta(hours=1)
    await database.run(users.touch_activity, {ada.id: later, 4711: later}, {})
    found = await database.read(users.find, "ada")
    assert found is not None and found.last_activity == MOMENT + timedelta(hours=1)


# -- lists ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def crowd(database: Database) -> Database:
    """ada runs a ready server, bob's starts, carl and dora are idle; ada and carl are in a class."""

    def fill(session: Session) -> None:
        for name in ("ada", "bob", "carl", "dora"):
            users.create(session, name)
        for name in ("ada", "carl"):
            found = users.find(session, name)
            assert found is not None
            users.sync_groups(session, found.id, ["class"])
        for name, state in (("ada", "ready"), ("bob", "starting")):
            found = users.find(session, name)
            assert found is not None
            server = begin(session, found.id)
            assert server.run is not None
            runs.move(session, server.id, server.run.fence, state=state)
        ada = orm.User.find(session, "ada")
        assert ada is not None
        ada.last_activity = MOMENT.replace(tzinfo=None)

    await database.run(fill)
    return database


QUERIES: list[tuple[dict[str, Any], list[str], int]] = [
    ({}, ["ada", "bob", "carl", "dora"], 4),
    ({"limit": 2}, ["ada", "bob"], 4),
    ({"limit": 2, "offset": 3}, ["dora"], 4),
    ({"state": "active"}, ["ada", "bob"], 2),
    ({"state": "ready"}, ["ada"], 1),
    ({"state": "inactive"}, ["carl", "dora"], 2),
    ({"sort": "-name"}, ["dora", "carl", "bob", "ada"], 4),
    ({"name_filter": "A", "sort": "name"}, ["ada", "carl", "dora"], 3),
    ({"name_filter": "%"}, ["ada", "bob", "carl", "dora"], 4),
    ({"filters": ALL}, ["ada", "bob", "carl", "dora"], 4),
    ({"filters": {}}, [], 0),
    ({"filters": {"user": {"bob", "nobody"}}}, ["bob"], 1),
    ({"filters": {"group": {"class"}}}, ["ada", "carl"], 2),
    ({"filters": {"server": {"dora/", "bob/lab"}}}, ["bob", "dora"], 2),
    ({"filters": {"group": {"class"}, "user": {"dora"}}, "state": "inactive"}, ["carl", "dora"], 2),
]


async def test_a_page_of_users_is_filtered_sorted_and_counted_in_the_database(crowd: Database) -> None:
    for query, expected, total in QUERIES:
        page, found = await crowd.read(users.list_page, **query)
        assert ([user.name for user in page], found) == (expected, total), query


async def test_users_are_walked_in_batches(crowd: Database) -> None:
    first = await crowd.read(users.names_after, 0, 3)
    second = await crowd.read(users.names_after, first[-1][0], 3)
    assert [name for _, name in first + second] == ["ada", "bob", "carl", "dora"]


async def test_a_page_costs_the_same_number_of_statements_however_long(crowd: Database) -> None:
    def grow(session: Session) -> None:
        for number in range(30):
            users.create(session, f"more{number}")

    async def statements(**query: Any) -> int:
        with crowd.record_threads() as recorder:
            await crowd.read(users.list_page, **query)
        return len(recorder.seen)

    few = await statements(limit=2)
    await crowd.run(grow)
    assert await statements(limit=30) == few


async def test_recently_active_users_are_counted(crowd: Database) -> None:
    assert await crowd.read(users.count_active_since, MOMENT - timedelta(hours=1)) == 1
    assert await crowd.read(users.count_active_since, MOMENT + timedelta(hours=1)) == 0


# -- groups and roles -----------------------------------------------------------------------------------------


async def test_groups_are_made_filled_emptied_and_deleted(crowd: Database) -> None:
    made = await crowd.run(groups.create, "lab", ["bob"], properties={"size": 1})
    assert (made.name, made.users, made.properties) == ("lab", ("bob",), {"size": 1})
    with pytest.raises(GroupExists):
        await crowd.run(groups.create, "lab", [])
    with pytest.raises(InvalidRequest, match="'nobody'"):
        await crowd.run(groups.add_users, "lab", ["dora", "nobody"])
    assert (await crowd.run(groups.add_users, "lab", ["dora", "bob"])).users == ("bob", "dora")
    assert (await crowd.run(groups.remove_users, "lab", ["bob", "ada"])).users == ("dora",)
    assert (await crowd.run(groups.set_properties, "lab", {"size": 2})).properties == {"size": 2}
    await crowd.run(groups.delete, "lab")
    assert await crowd.read(groups.find, "lab") is None
    with pytest.raises(GroupNotFound):
        await crowd.run(groups.delete, "lab")
    assert await crowd.read(users.find, "dora") is not None


async def test_a_page_of_groups_is_filtered(crowd: Database) -> None:
    await crowd.run(groups.create, "lab", [])
    page, total = await crowd.read(groups.list_page, offset=0, limit=10, filters={"group": frozenset({"lab"})})
    assert ([group.name for group in page], total) == (["lab"], 1)
    page, total = await crowd.read(groups.list_page, offset=1, limit=1)
    assert ([group.name for group in page], total) == (["lab"], 2)


async def test_scopes_of_roles_are_joined_and_unknown_roles_named(database: Database) -> None:
    assert await database.read(grants.scopes_of_roles, ["user", "token"]) == ["inherit", "self"]
    with pytest.raises(RoleNotFound, match="'nothing'"):
        await database.read(grants.scopes_of_roles, ["nothing"])


# -- log-ins --------------------------------------------------------------------------------------------------


async def test_a_log_in_stores_what_the_authenticator_said(database: Database) -> None:
    ada = await database.run(make_user)
    await database.run(
        logins.store_login, ada.id, admin=True, user_info={"mail": "ada@example.org"}, groups=["b", "a"], roles=None
    )
    found = await database.read(users.find, "ada")
    assert found is not None
    assert (found.admin, found.user_info, found.groups) == (True, {"mail": "ada@example.org"}, ("a", "b"))
    assert found.roles == ("admin", "user")
    await database.run(logins.store_login, ada.id, admin=None, user_info=None, groups=None, roles=None)
    again = await database.read(users.find, "ada")
    assert again == found


async def test_roles_from_a_log_in_are_exactly_those_and_unused_ones_go(database: Database) -> None:
    """Made by the authenticator and without members, a role is deleted (rbac §7)."""
    ada = await database.run(make_user)
    await database.run(users.sync_roles, ada.id, [{"name": "user"}, {"name": "staff", "scopes": ["read:users"]}])
    found = await database.read(users.find, "ada")
    assert found is not None and found.roles == ("staff", "user")
    await database.run(users.sync_roles, ada.id, [])
    found = await database.read(users.find, "ada")
    assert found is not None and found.roles == ()
    left = await database.read(lambda session: sorted(session.scalars(select(orm.Role.name))))
    assert left == ["admin", "server", "token", "user"]


async def test_a_cookie_that_was_logged_out_stays_so_until_it_would_have_expired(database: Database) -> None:
    future = datetime.now(timezone.utc) + timedelta(days=1)
    await database.run(logins.end_login, "d" * 64, future)
    await database.run(logins.end_login, "d" * 64, future)
    await database.run(logins.end_login, "e" * 64, MOMENT)
    assert await database.read(logins.login_ended, "d" * 64)
    assert not await database.read(logins.login_ended, "f" * 64)
    await database.run(logins.purge_ended_logins)
    assert await database.read(logins.login_ended, "d" * 64)
    assert not await database.read(logins.login_ended, "e" * 64)


# -- audit ----------------------------------------------------------------------------------------------------


async def test_the_audit_is_read_newest_first_and_dropped_by_age(database: Database) -> None:
    for number in range(3):
        await database.run(audit.append, "server.start", actor="ada", target=f"ada/{number}", details={"n": number})
    await database.run(audit.append, "x" * 1000, actor="y" * 1000, target="z" * 1000)
    page = await database.read(audit.latest, limit=2)
    assert [entry.target[:5] for entry in page] == ["zzzzz", "ada/2"]
    assert page[1].at.tzinfo is not None and page[1].details == {"n": 2}
    rest = await database.read(audit.latest, before=page[-1].id)
    assert [entry.target for entry in rest] == ["ada/1", "ada/0"]
    assert await database.run(audit.drop_before, datetime.now(timezone.utc) + timedelta(minutes=1)) == 4
    assert await database.read(audit.latest) == []

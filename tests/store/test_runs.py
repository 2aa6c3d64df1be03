"""The rows of one run: every write is fenced, every step can be taken back, and a killed hub's successor finds all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from jupyterhub import orm
from jupyterhub.core import secrets
from jupyterhub.core.errors import LeaseLost, ServerBusy, ServerExists, ServerNotFound
from jupyterhub.core.scopes.expand import Resolution
from jupyterhub.orm.own import HubProcess, Run
from jupyterhub.store import grants, leases, loading, runs, starts, tokens, users
from jupyterhub.store.database import Database
from jupyterhub.store.values import ServerRecord

from .people import CLIENT, NOTE, TOKEN, begin, count, counts, make_secrets, make_user, register

Opener = Callable[..., Database]


async def started(database: Database, name: str = "") -> tuple[int, ServerRecord]:
    """A user with a server whose start has begun: the user's id, and the server with its run."""
    ada = await database.run(make_user)
    return ada.id, await database.run(begin, ada.id, name)


async def reread(database: Database, server_id: int) -> ServerRecord:
    return await database.read(loading.find, server_id)


async def test_a_start_writes_wish_lease_and_placeholder_address_at_once(database: Database) -> None:
    _, server = await started(database)
    assert server.run is not None and server.address is not None
    assert (server.run.state, server.run.owner, server.user_options) == ("starting", None, {"size": "small"})
    assert (server.address.ip, server.address.port) == ("", 0)
    assert (server.address.base_url, server.address.cookie_name) == ("/user/ada/", "cookie")
    assert server.started is not None and server.started.tzinfo is not None


async def test_a_server_in_motion_cannot_be_started_again(database: Database) -> None:
    user_id, _ = await started(database)
    with pytest.raises(ServerBusy) as busy:
        await database.run(begin, user_id)
    assert busy.value.pending == "spawn"


async def test_of_many_that_start_the_same_server_one_succeeds(served: Database) -> None:
    ada = await served.run(make_user)
    results = await asyncio.gather(*(served.run(begin, ada.id) for _ in range(6)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ServerBusy"] * 5 + ["ServerRecord"]
    assert (await served.read(counts))["servers"] == 1


async def test_fencing_numbers_only_grow_also_after_the_row_is_gone(database: Database) -> None:
    user_id, first = await started(database)
    assert first.run is not None
    await database.run(runs.end, first.id, first.run.fence, spawner_state={}, failure=None, phases=[], output_tail=[])
    second = await database.run(begin, user_id)
    await database.run(lambda session: session.execute(text("DELETE FROM hub7_runs")) and None)
    third = await database.run(begin, user_id)
    assert second.run is not None and third.run is not None
    assert first.run.fence < second.run.fence < third.run.fence


@pytest.mark.parametrize(
    "write",
    [
        lambda session, server, fence: register(session, server, fence),
        lambda session, server, fence: runs.save_state(session, server, fence, {"pid": 1}),
        lambda session, server, fence: runs.move(session, server, fence, state="ready"),
        lambda session, server, fence: runs.forget_secrets(
            session, server, fence, note=NOTE, client_id=CLIENT, keep=False
        ),
        lambda session, server, fence: runs.adopt_token(
            session, server, fence, token=TOKEN, replaced="", note="", client_id=CLIENT
        ),
        lambda session, server, fence: runs.end(
            session, server, fence, spawner_state={}, failure=None, phases=[], output_tail=[]
        ),
    ],
    ids=["register_secrets", "save_state", "move", "forget_secrets", "adopt_token", "end"],
)
async def test_whoever_lost_the_lease_can_write_nothing(database: Database, write: Callable[..., Any]) -> None:
    _, server = await started(database)
    assert server.run is not None
    before = await database.read(counts)
    with pytest.raises(LeaseLost):
        await database.run(write, server.id, server.run.fence - 1)
    assert await database.read(counts) == before
    assert await reread(database, server.id) == server


async def test_secrets_are_registered_with_one_round_and_the_client_knows_its_server(database: Database) -> None:
    _, server = await started(database)
    assert server.run is not None
    await database.run(register, server.id, server.run.fence)

    def look(session: Session) -> tuple[Any, ...]:
        client = session.scalars(select(orm.OAuthClient).where(orm.OAuthClient.identifier == CLIENT)).one()
        token = session.scalars(select(orm.APIToken)).one()
        return client.secret, client.allowed_scopes, token.hashed, token.note, token.client_id, token.scopes

    secret, allowed, hashed, note, client_id, scopes = await database.read(look)
    assert secret.startswith("sha512:1:") and secrets.compare_token(secret, TOKEN)
    assert hashed.startswith("sha512:1:") and secrets.compare_token(hashed, TOKEN)
    assert allowed == ["access:servers!server=ada/", "read:users"]
    assert (note, client_id, scopes) == (NOTE, "jupyterhub", ["users:activity!user"])
    identity = await database.run(tokens.find_by_token, TOKEN)
    assert identity is not None and identity.name == "ada"
    assert (await reread(database, server.id)).oauth_client_id == CLIENT


async def test_secrets_that_need_no_decision_are_stored_with_the_wish(database: Database) -> None:
    """The same rows as in two transactions, and the record says what a new look at the database says."""
    user_id, first = await started(database)
    assert first.run is not None
    await database.run(register, first.id, first.run.fence, token="f" * 32)
    await database.run(
        runs.end, first.id, first.run.fence, spawner_state={"pid": 1}, failure=None, phases=[], output_tail=[]
    )

    asked: list[tuple[list[str], list[str]]] = []

    def decide(of_role: list[str], held: list[str]) -> Resolution:
        asked.append((of_role, held))
        return Resolution(frozenset({"users:activity!user"}))

    begun = await database.run(
        starts.begin,
        first.id,
        owner=None,
        options=None,
        base_url="/user/ada/",
        requested_by="grace",
        role="server",
        secrets=make_secrets(),
        decide=decide,
    )
    server = begun.server
    of_role = await database.read(grants.scopes_of_roles, ["server"])
    assert asked == [(of_role, ["self"])] == [(begun.role_scopes, begun.held)]
    assert server == await reread(database, first.id)
    assert (server.oauth_client_id, server.user_options, server.state) == (CLIENT, {"size": "small"}, {"pid": 1})

    def look(session: Session) -> tuple[Any, ...]:
        client = session.scalars(select(orm.OAuthClient).where(orm.OAuthClient.identifier == CLIENT)).one()
        # That of the run before is gone.
        token = session.scalars(select(orm.APIToken)).one()
        return client.secret, client.redirect_uri, client.description, token.hashed, token.note, token.scopes

    secret, redirect, description, hashed, note, scopes = await database.read(look)
    assert secrets.compare_token(secret, TOKEN) and secrets.compare_token(hashed, TOKEN)
    assert (redirect, description, note, scopes) == ("/user/ada/oauth_callback", NOTE, NOTE, ["users:activity!user"])
    assert (await database.read(counts))["servers"] == 1
    assert server.user_id == user_id


async def test_taking_back_leaves_nothing_but_the_server_itself(database: Database) -> None:
    """Also tokens that earlier runs have left behind, and what browsers were granted through the client."""
    _, server = await started(database)
    assert server.run is not None
    before = {**await database.read(counts), "servers": 0}

    def litter(session: Session) -> None:
        tokens.issue(session, scopes=[], user_id=server.user_id, note=NOTE)

    await database.run(litter)
    await database.run(register, server.id, server.run.fence)

    def browse(session: Session) -> None:
        tokens.issue(session, scopes=[], user_id=server.user_id, client_id=CLIENT)
        session.add(orm.OAuthCode(client_id=CLIENT, code="c", expires_at=1, user_id=server.user_id))

    await database.run(browse)
    await database.run(runs.forget_secrets, server.id, server.run.fence, note=NOTE, client_id=CLIENT, keep=False)
    assert await database.read(counts) == before
    found = await reread(database, server.id)
    assert (found.address, found.started, found.oauth_client_id) == (None, None, None)
    assert found.run is not None and found.run.state == "starting"


async def test_tokens_of_another_server_of_the_same_user_stay(database: Database) -> None:
    """The note of a named server begins like that of the default one."""
    _, server = await started(database)
    assert server.run is not None
    await database.run(register, server.id, server.run.fence)
    await database.run(
        lambda session: tokens.issue(session, scopes=[], user_id=server.user_id, note=f"{NOTE}lab/") and None
    )
    await database.run(runs.forget_secrets, server.id, server.run.fence, note=NOTE, client_id=CLIENT, keep=False)
    left = await database.read(lambda session: list(session.scalars(select(orm.APIToken.note))))
    assert left == [f"{NOTE}lab/"]


async def test_a_server_that_will_resume_keeps_token_and_client(database: Database) -> None:
    _, server = await started(database)
    assert server.run is not None
    await database.run(register, server.id, server.run.fence)
    await database.run(runs.forget_secrets, server.id, server.run.fence, note=NOTE, client_id=CLIENT, keep=True)
    found = await database.read(counts)
    assert (found["servers"], found["api_tokens"], found["oauth_clients"]) == (0, 1, 2)


async def test_a_move_stores_what_became_known_by_it(database: Database) -> None:
    _, server = await started(database)
    assert server.run is not None
    phases = [{"phase": "starting", "started": "2026-01-01T00:00:00+00:00", "ended": None}]
    await database.run(
        runs.move,
        server.id,
        server.run.fence,
        state="connecting",
        phases=phases,
        address=("https", "10.0.0.1", 8888),
        spawner_state={"pid": 7},
    )
    found = await reread(database, server.id)
    assert found.run is not None and found.address is not None
    assert (found.run.state, list(found.run.phases), found.state) == ("connecting", phases, {"pid": 7})
    assert (found.address.proto, found.address.ip, found.address.port) == ("https", "10.0.0.1", 8888)
    await database.run(runs.move, server.id, server.run.fence, state="undoing", failure={"cause": "x", "message": "y"})
    again = await reread(database, server.id)
    assert again.run is not None
    assert (again.run.failure, list(again.run.phases)) == ({"cause": "x", "message": "y"}, phases)


async def test_the_end_of_a_run_keeps_its_failure_and_gives_up_the_lease(database: Database) -> None:
    _, server = await started(database)
    assert server.run is not None
    fence = server.run.fence
    await database.run(runs.forget_secrets, server.id, fence, note=NOTE, client_id=CLIENT, keep=False)
    await database.run(
        runs.end,
        server.id,
        fence,
        spawner_state={},
        failure={"cause": "exited", "message": "It ended."},
        phases=[],
        output_tail=["line 1", "line 2"],
    )
    found = await reread(database, server.id)
    assert found.run is not None and found.run.failure is not None
    assert (found.run.state, found.run.owner, found.run.failure["cause"]) == ("stopped", None, "exited")
    assert found.run.output_tail == ("line 1", "line 2")
    assert found.state == {}


async def test_a_resumed_servers_own_token_replaces_ours(database: Database) -> None:
    _, server = await started(database)
    assert server.run is not None
    await database.run(register, server.id, server.run.fence)
    brought = "a-token-from-last-week"
    await database.run(
        runs.adopt_token,
        server.id,
        server.run.fence,
        token=brought,
        replaced=TOKEN,
        note="retrieved from spawner ada",
        client_id=CLIENT,
    )
    assert await database.run(tokens.find_by_token, TOKEN) is None
    identity = await database.run(tokens.find_by_token, brought)
    assert identity is not None and identity.name == "ada"
    assert identity.token is not None and identity.token.note == "retrieved from spawner ada"


async def test_a_token_of_somebody_else_is_revoked_and_not_adopted(database: Database) -> None:
    _, server = await started(database)
    assert server.run is not None
    await database.run(register, server.id, server.run.fence)
    eve = await database.run(make_user, "eve")
    stolen, _ = await database.run(lambda session: tokens.issue(session, scopes=[], user_id=eve.id))
    adopted = await database.run(
        runs.adopt_token, server.id, server.run.fence, token=stolen, replaced=TOKEN, note="", client_id=CLIENT
    )
    assert not adopted
    assert await database.run(tokens.find_by_token, stolen) is None


async def take_over(database: Database, owner: int | None, **others: Any) -> list[ServerRecord]:
    """Take over, and return what was taken."""
    return await database.read(loading.load_servers, await database.run(runs.take_over, owner, **others))


# -- taking over ----------------------------------------------------------------------------------------------


def unmapped(session: Session) -> None:
    """Two servers as JupyterHub 6 leaves them when it is stopped: one runs, one was killed during its start."""
    for name, state in (("ada", {"pid": 1}), ("bob", None)):
        user = orm.User(name=name)
        session.add(user)
        server = orm.Server(ip="127.0.0.1", port=1)
        session.add(server)
        session.flush()
        session.add(orm.Spawner(user_id=user.id, name="", server_id=server.id, state=state))


async def test_servers_that_jupyterhub_6_left_running_are_taken_over_to_be_checked(database: Database) -> None:
    await database.run(unmapped)
    process = await database.run(lambda session: leases.register_process(session, hostname="h", pid=1))
    taken = await take_over(database, process)
    assert {(row.user_name, row.run.state, row.run.owner) for row in taken if row.run} == {
        ("ada", "checking", process),
        ("bob", "checking", process),
    }


async def test_a_successor_takes_every_server_in_motion_with_a_new_fence(database: Database) -> None:
    """And nothing is taken that is stopped."""
    first = await database.run(lambda session: leases.register_process(session, hostname="h", pid=1))
    ada = await database.run(make_user)
    running = await database.run(begin, ada.id, owner=first)
    stopped = await database.run(begin, ada.id, "lab", owner=first)
    assert running.run is not None and stopped.run is not None
    await database.run(runs.forget_secrets, stopped.id, stopped.run.fence, note="x", client_id="x", keep=False)
    await database.run(
        runs.end, stopped.id, stopped.run.fence, spawner_state={}, failure=None, phases=[], output_tail=[]
    )
    second = await database.run(lambda session: leases.register_process(session, hostname="h", pid=2, alone=True))
    (taken,) = await take_over(database, second)
    assert taken.run is not None
    assert (taken.id, taken.run.state, taken.run.owner) == (running.id, "starting", second)
    assert taken.run.fence > running.run.fence
    with pytest.raises(LeaseLost):
        await database.run(runs.save_state, running.id, running.run.fence, {})


async def test_servers_of_the_living_are_left_alone(database: Database) -> None:
    def two(session: Session) -> tuple[int, int]:
        return (
            leases.register_process(session, hostname="a", pid=1),
            leases.register_process(session, hostname="b", pid=2),
        )

    dead, alive = await database.run(two)
    ada = await database.run(make_user)
    await database.run(begin, ada.id, "of-the-dead", owner=dead)
    await database.run(begin, ada.id, "of-the-living", owner=alive)
    newcomer = await database.run(lambda session: leases.register_process(session, hostname="c", pid=3))
    taken = await take_over(database, newcomer, dead_owners=[dead])
    assert [row.name for row in taken] == ["of-the-dead"]
    left = await database.read(leases.list_processes)
    assert {process.id for process in left} == {alive, newcomer}


async def test_an_interrupted_rename_is_over(database: Database) -> None:
    await started(database)
    await database.run(lambda session: session.execute(update(Run).values(state="renaming")) and None)
    await database.run(lambda session: session.execute(update(orm.Spawner).values(server_id=None)) and None)
    assert await take_over(database, None) == []


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE spawners SET started = NULL, server_id = NULL",
        "UPDATE users SET cookie_id = 'of-another-user'",
    ],
    ids=["stopped by another program", "the row id belongs to another user now"],
)
async def test_a_run_that_does_not_fit_its_server_any_more_is_dropped(database: Database, meanwhile: str) -> None:
    await started(database)
    await database.run(lambda session: session.execute(text(meanwhile)) and None)
    taken = await take_over(database, None)
    assert [row for row in taken if row.run is not None and row.run.state == "starting"] == []
    assert all(row.run is not None and row.run.state == "checking" for row in taken)


async def test_a_run_is_never_believed_by_its_row_id_alone(database: Database) -> None:
    """SQLite gives the id of a deleted last row to the next: the newcomer must not inherit the failure."""
    _, server = await started(database)
    assert server.run is not None
    await database.run(
        runs.end,
        server.id,
        server.run.fence,
        spawner_state={},
        failure={"cause": "x", "message": "x"},
        phases=[],
        output_tail=[],
    )
    await database.run(lambda session: session.execute(text("UPDATE users SET cookie_id = 'another'")) and None)
    assert (await reread(database, server.id)).run is None


async def test_sign_out_everywhere_does_not_forget_the_run(database: Database) -> None:
    user_id, _ = await started(database)
    await database.run(users.new_cookie_id, user_id)
    (taken,) = await take_over(database, None)
    assert taken.run is not None and taken.run.state == "starting"


# -- rows of servers ------------------------------------------------------------------------------------------


async def test_ensuring_a_server_twice_makes_one_row(database: Database) -> None:
    ada = await database.run(make_user)
    first = await database.run(runs.ensure, ada.id, "lab", "My Lab")
    second = await database.run(runs.ensure, ada.id, "lab")
    assert (first.id, second.display_name) == (second.id, "My Lab")
    assert [server.name for server in await database.read(loading.servers_of, ada.id)] == ["", "lab"]


async def test_a_renamed_server_keeps_its_shares(database: Database) -> None:
    """Their scopes name the server, so they are written anew (database §3)."""
    ada = await database.run(make_user)
    await database.run(make_user, "bob")
    lab = await database.run(runs.ensure, ada.id, "lab")
    await database.run(
        lambda session: session.add(
            orm.Share(owner_id=ada.id, spawner_id=lab.id, user_id=2, scopes=["access:servers!server=ada/lab"])
        )
    )
    await database.run(runs.rename, lab.id, "hall")
    scopes = await database.read(lambda session: session.scalars(select(orm.Share.scopes)).one())
    assert scopes == ["access:servers!server=ada/hall"]
    await database.run(users.rename, ada.id, "eva")
    scopes = await database.read(lambda session: session.scalars(select(orm.Share.scopes)).one())
    assert scopes == ["access:servers!server=eva/hall"]


async def test_names_of_servers_are_not_given_twice(database: Database) -> None:
    ada = await database.run(make_user)
    lab = await database.run(runs.ensure, ada.id, "lab")
    await database.run(runs.ensure, ada.id, "hall")
    with pytest.raises(ServerExists):
        await database.run(runs.rename, lab.id, "hall")
    with pytest.raises(ServerNotFound):
        await database.run(runs.rename, 4711, "x")


async def test_removing_a_server_removes_all_that_hangs_on_it(database: Database) -> None:
    """Address, client, shares, codes and run; the user stays (database §6)."""
    user_id, server = await started(database)
    assert server.run is not None
    await database.run(register, server.id, server.run.fence)

    def share(session: Session) -> None:
        session.add(orm.Share(owner_id=user_id, spawner_id=server.id, user_id=user_id, scopes=[]))
        row = session.get(orm.Spawner, server.id)
        assert row is not None
        code = orm.ShareCode(owner=row.user, spawner=row, scopes=[])
        code.token = "x" * 43
        session.add(code)

    await database.run(share)
    await database.run(runs.remove, server.id)
    found = await database.read(counts)
    assert (found["spawners"], found["servers"], found["oauth_clients"]) == (0, 0, 1)
    assert (found["shares"], found["share_codes"]) == (0, 0)
    assert await database.read(count, Run) == 0


async def test_a_user_is_found_with_all_servers_by_name_and_by_id(database: Database) -> None:
    user_id, _ = await started(database, "lab")
    for key in ("ada", user_id):
        loaded = await database.read(loading.load_user, key)
        assert loaded is not None
        record, servers = loaded
        assert (record.name, [each.name for each in servers]) == ("ada", ["", "lab"])
        assert record.roles == ("user",)
    assert await database.read(loading.load_user, "nobody") is None
    assert await database.read(loading.load_user, 4711) is None


# -- hub processes --------------------------------------------------------------------------------------------


async def test_a_process_that_starts_alone_forgets_all_others(database: Database) -> None:
    first = await database.run(lambda session: leases.register_process(session, hostname="h", pid=1))
    second = await database.run(
        lambda session: leases.register_process(session, hostname="h", pid=2, url="http://h:1/", alone=True)
    )
    (found,) = await database.read(leases.list_processes)
    assert (found.id, found.pid, found.url) == (second, 2, "http://h:1/")
    if first != second:
        assert not await database.run(leases.heartbeat, first)
    assert await database.run(leases.heartbeat, second)


async def test_a_process_without_heartbeat_is_dead(database: Database) -> None:
    process = await database.run(lambda session: leases.register_process(session, hostname="h", pid=1))
    assert await database.read(leases.dead_processes, 60) == []

    def age(session: Session) -> None:
        row = session.get(HubProcess, process)
        assert row is not None
        row.heartbeat = row.heartbeat.replace(year=2000)

    await database.run(age)
    assert await database.read(leases.dead_processes, 60) == [process]
    await database.run(leases.heartbeat, process)
    assert await database.read(leases.dead_processes, 60) == []
    await database.run(leases.unregister_process, process)
    assert await database.read(leases.list_processes) == []


@pytest.mark.engine
async def test_on_postgresql_a_killed_process_is_known_at_once(postgres: Any, opened: Opener) -> None:
    """Its lock goes with its connection; a living one is not taken for dead."""
    url = postgres.create_database()
    one, two = opened(url), opened(url)
    ids = []
    for database in (one, two):
        key = leases.new_key()
        assert await database.hold_process_lock(key)
        ids.append(
            await database.run(lambda session, key=key: leases.register_process(session, hostname="h", pid=1, key=key))
        )
    assert await one.read(leases.dead_processes, 60) == []
    backend = postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = "
        f"{(await two.run(lambda session: int(session.get_one(HubProcess, ids[1]).key)))}",
        database=url.rpartition("/")[2],
    )
    assert backend == [(True,)]
    deadline = asyncio.get_running_loop().time() + 5
    while (dead := await one.read(leases.dead_processes, 60)) == [] and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0)
    assert dead == [ids[1]]


@pytest.mark.engine
async def test_a_restart_of_postgresql_makes_nobody_dead_and_the_lock_is_taken_anew(
    postgres: Any, opened: Opener
) -> None:
    url = postgres.create_database()
    database = opened(url)
    key = leases.new_key()
    assert await database.hold_process_lock(key)
    process = await database.run(lambda session: leases.register_process(session, hostname="h", pid=1, key=key))
    postgres.restart()
    assert await database.read(leases.dead_processes, 60) == []
    assert await database.hold_process_lock(key)
    assert await database.run(leases.heartbeat, process)
    assert await database.read(leases.dead_processes, 60) == []
    other = opened(url)
    assert not await other.hold_process_lock(key)


async def test_elsewhere_there_is_no_such_lock(tmp_path: Any, opened: Opener) -> None:
    assert not await opened(f"sqlite:///{tmp_path}/hub.sqlite").hold_process_lock(1)

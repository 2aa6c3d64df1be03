"""Rules that hold for every operation (rest-api §1)."""

from __future__ import annotations

from .live_hub import LiveHub


async def test_smoke(live: LiveHub) -> None:
    for path in ("", "/"):
        answer = await live.call("GET", path)
        assert answer.status == 200 and answer.headers["Access-Control-Allow-Origin"] == "*"
    assert (await live.as_("admin", "GET", "/user")).json["name"] == "admin"
    await live.run_server("alice")
    print((await live.as_("alice", "GET", "/users/alice")).json)

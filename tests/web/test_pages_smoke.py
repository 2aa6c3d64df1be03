from .fakes import PlayedHub, text_of


async def test_login_and_home(hub: PlayedHub) -> None:
    b = hub.browser()
    a = await b.get("/hub/login?next=%2Fhub%2Ftoken")
    print(a.code, b.set_cookies, text_of(a)[:3000])
    a = await b.log_in("ada", next_url="/hub/token")
    print(a.code, a.headers.get("Location"), b.set_cookies, text_of(a)[:600])
    for p in ("/hub/home", "/hub/token", "/hub/spawn", "/hub/nope", "/hub/spawn-pending/ada"):
        a = await b.get(p)
        print(p, a.code, a.headers.get("Location"), text_of(a)[-1800:])
    assert 0

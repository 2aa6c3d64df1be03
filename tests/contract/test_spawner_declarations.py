"""Plain attributes of a spawner class as settings, hooks as settings or methods (spawner-system S5, S6, S9, S10)."""

from __future__ import annotations

import asyncio
import copy
from typing import Any, ClassVar, Final

import pytest
from traitlets import TraitError, TraitType, Unicode, observe, validate
from traitlets import default as trait_default
from traitlets.config import Config

from jupyterhub.core.lifecycle import State
from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner
from jupyterhub.spawning import polling
from jupyterhub.spawning.fakes import StartsNothing

from .spawner_world import make_record, make_spawner


class Declares(StartsNothing):
    image: str = "base"
    remove: bool = True
    count: int = 1
    share: float = 1.0
    mounts: dict[str, str] = {"/a": "/b"}
    either: int | str = 3
    ratio: float = 1
    anything: Any = None
    mem_limit: str = "1G"
    cpu_limit: float = 1.0
    CONSTANT: ClassVar[str] = "c"
    FIXED: Final = "f"
    _private: str = "p"
    not_annotated = "n"


def configured(cls: Any = Declares, **settings: Any) -> Any:
    config = Config()
    config[cls.__name__].update(settings)
    return cls(config=config)


# -- annotated attributes --


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "scipy"), ("remove", False), ("count", 5), ("share", 0.5), ("share", 2), ("either", "text"),
        ("ratio", 0.25), ("anything", [1]), ("mounts", {"/c": "/d"}), ("mem_limit", "2G"), ("cpu_limit", 2.0),
        ("image", None), ("count", None),
    ],
)  # fmt: skip
def test_configuration_reaches_them(name: str, value: Any) -> None:
    assert getattr(configured(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [("image", 5), ("remove", "yes"), ("count", "many"), ("share", "half"), ("mem_limit", 2147483648)],
)
def test_configuration_of_another_kind_is_refused_with_the_name(name: str, value: Any) -> None:
    with pytest.raises(TraitError, match=name):
        configured(**{name: value})


def test_code_may_assign_anything() -> None:
    spawner = Declares()
    spawner.image, spawner.count = 5, "many"
    assert (spawner.image, spawner.count) == (5, "many")


def test_the_class_gives_the_plain_value() -> None:
    assert (Declares.image, Declares.remove, Declares.mem_limit) == ("base", True, "1G")
    assert Declares.CONSTANT == "c"


def test_constants_private_names_and_unannotated_attributes_are_no_settings() -> None:
    names = set(Declares.class_trait_names())
    assert {"image", "remove", "mem_limit"} <= names
    assert names.isdisjoint({"CONSTANT", "FIXED", "_private", "not_annotated"})


def test_each_object_has_its_own_default() -> None:
    Declares().mounts["/x"] = "/y"
    assert Declares().mounts == {"/a": "/b"}


def test_they_are_inherited_and_overridden() -> None:
    class Child(Declares):
        image = "child"
        remove: bool = False

    assert (Child.image, Child().image, Child().remove) == ("child", "child", False)
    assert configured(Child, image="configured").image == "configured"
    assert configured(Child, remove=True).remove is True
    assert Declares().image == "base"


def test_annotations_as_text_are_understood() -> None:
    assert isinstance(Declares.class_traits()["image"], TraitType)
    assert isinstance(Declares.class_traits()["ratio"].default_value, int)


def test_a_declared_limit_is_told_to_the_server() -> None:
    env = make_spawner(Declares).get_env()
    assert (env["MEM_LIMIT"], env["CPU_LIMIT"]) == ("1G", "1.0")


def test_classes_outside_our_tree_are_left_alone() -> None:
    class Mixin:
        colour: str = "red"

    class Both(Mixin, StartsNothing):
        pass

    assert "colour" not in Both.class_trait_names()
    assert Both().colour == "red"


# -- plain overrides of inherited settings --


class Overrides(StartsNothing):
    start_timeout = 300
    environment = {"A": "1"}
    mem_limit = "2G"
    cmd = "one-word"
    profiles = [{"display_name": "Only"}]
    default_url = None
    notebook_dir = 5


def test_a_fitting_value_becomes_the_default_and_configuration_still_counts() -> None:
    assert Overrides().start_timeout == 300
    assert configured(Overrides, start_timeout=7).start_timeout == 7
    assert Overrides().mem_limit == 2 * 1024**3
    assert Overrides().cmd == ["one-word"]
    with pytest.raises(TraitError):
        configured(Overrides, start_timeout="soon")


def test_defaults_that_can_change_are_not_shared() -> None:
    Overrides().environment["B"] = "2"
    Overrides().profiles.append({})
    assert Overrides().environment == {"A": "1"}
    assert len(Overrides().profiles) == 1


def test_a_value_that_does_not_fit_hides_the_setting() -> None:
    assert Overrides().default_url is None
    assert Overrides().notebook_dir == 5
    assert "notebook_dir" not in Overrides.class_trait_names()


def test_functions_and_properties_hide_the_setting() -> None:
    class Hides(StartsNothing):
        @property
        def cmd(self) -> list[str]:
            return ["computed"]

        def options_form(self, spawner: Any) -> str:
            return "<p>asked</p>"

    assert Hides().cmd == ["computed"]
    assert asyncio.run(Hides().get_options_form()) == "<p>asked</p>"


def test_a_default_method_of_a_subclass_wins_over_the_inherited_value() -> None:
    class Computes(Overrides):
        @trait_default("start_timeout")
        def _longer(self) -> int:
            return 400

    assert Computes().start_timeout == 400


def test_the_simple_spawner_never_creates_accounts_by_default() -> None:
    assert SimpleLocalProcessSpawner().create_system_users is False
    assert LocalProcessSpawner().create_system_users is False
    assert "CONDA_ROOT" in LocalProcessSpawner().env_keep
    assert StartsNothing().env_keep == ["JUPYTERHUB_SINGLEUSER_APP"]


# -- hooks --


async def run_start(spawner: Any, error: Exception | None = None) -> None:
    """A start as the Hub makes it, as far as hooks are concerned."""
    spawner._begin_run()
    await_all = [spawner.run_pre_spawn_hook()]
    for result in await_all:
        if result is not None:
            await result
    try:
        await spawner.start()
    except Exception as raised:
        result = spawner.run_spawn_error_hook(raised)
    else:
        result = spawner.run_post_spawn_hook()
    if result is not None:
        await result


class HooksAsMethods(StartsNothing):
    fails = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seen: list[str] = []
        super().__init__(*args, **kwargs)

    async def start(self) -> Any:
        self.seen.append("start")
        if self.fails:
            raise RuntimeError("no")
        return await super().start()

    async def pre_spawn_hook(self) -> None:
        self.seen.append("pre")

    async def post_spawn_hook(self) -> None:
        self.seen.append("post")

    async def spawn_error_hook(self, error: Exception) -> None:
        self.seen.append(f"error {error}")


class HooksCalledByStart(HooksAsMethods):
    async def start(self) -> Any:
        await self.pre_spawn_hook()
        try:
            result = await super().start()
            await self.post_spawn_hook()
            return result
        except Exception as error:
            await self.spawn_error_hook(error)
            raise


@pytest.mark.parametrize("cls", [HooksAsMethods, HooksCalledByStart])
@pytest.mark.parametrize("starts", [1, 2])
async def test_hooks_run_once_per_start_whoever_calls_them(cls: Any, starts: int) -> None:
    spawner = make_spawner(cls)
    for _ in range(starts):
        await run_start(spawner)
    assert spawner.seen == ["pre", "start", "post"] * starts


@pytest.mark.parametrize("cls", [HooksAsMethods, HooksCalledByStart])
async def test_the_error_hook_runs_once_and_the_other_one_not(cls: Any) -> None:
    spawner = make_spawner(cls)
    spawner.fails = True
    await run_start(spawner)
    assert spawner.seen == ["pre", "start", "error no"]


async def test_a_hook_may_call_that_of_its_parent() -> None:
    class Extends(HooksCalledByStart):
        async def pre_spawn_hook(self) -> None:
            await super().pre_spawn_hook()
            self.seen.append("pre of child")

    spawner = make_spawner(Extends)
    await run_start(spawner)
    assert spawner.seen == ["pre", "pre of child", "start", "post"]
    by_itself = make_spawner(Extends)
    await by_itself.start()
    assert by_itself.seen == ["pre", "pre of child", "start", "post"]


async def test_a_start_by_the_plugin_itself_runs_its_hooks_too() -> None:
    spawner = make_spawner(HooksCalledByStart)
    await spawner.start()
    await spawner.start()
    assert spawner.seen == ["pre", "start", "post"] * 2


async def test_hooks_as_settings_get_the_spawner() -> None:
    seen: list[Any] = []

    async def pre(spawner: Any) -> None:
        seen.append(("pre", spawner))

    def error_hook(spawner: Any, error: Exception) -> None:
        seen.append(("error", spawner, str(error)))

    spawner = make_spawner(StartsNothing, pre_spawn_hook=pre, spawn_error_hook=error_hook)
    await spawner.run_pre_spawn_hook()
    spawner.run_spawn_error_hook(RuntimeError("no"))
    assert seen == [("pre", spawner), ("error", spawner, "no")]
    assert spawner.run_post_spawn_hook() is None


async def test_methods_in_the_way_of_jupyterhub_6_get_the_spawner_once_more() -> None:
    class OldWay(StartsNothing):
        def pre_spawn_hook(self, spawner: Any) -> bool:
            return spawner is self

        async def auth_state_hook(self, spawner: Any, auth_state: Any) -> None:
            self.seen = (spawner is self, auth_state)

    spawner = make_spawner(OldWay)
    assert spawner.run_pre_spawn_hook() is True
    await spawner.run_auth_state_hook({"token": "t"})
    assert spawner.seen == (True, {"token": "t"})


async def test_an_error_of_the_last_hook_is_logged_only() -> None:
    def fails(spawner: Any) -> None:
        raise RuntimeError("no")

    await make_spawner(StartsNothing, post_stop_hook=fails).run_post_stop_hook()


# -- a plugin that restarts its server inside poll (S9) --


class RestartsSick(StartsNothing):
    http_timeout = 0
    sick = False

    async def poll(self) -> int | None:
        status = await super().poll()
        if status is not None:
            return status
        if self.sick:
            self.sick = False
            await self.stop()
            await asyncio.sleep(0)
            # A free port that is looked for may happen to be the one before.
            self.port = self.port % 65535 + 1
            await self.start()
        return None


async def test_a_restart_inside_poll_is_noted_and_the_hub_told() -> None:
    told: list[Any] = []
    record = make_record()
    spawner = make_spawner(RestartsSick, _record=record)
    await spawner.start()
    record.lifecycle = State.READY
    before = spawner.url
    record.on_polled = lambda: told.append(record.address_changed)
    await spawner._poll_periodically()
    assert (told, record.address_changed) == ([False], False)
    spawner.sick = True
    await spawner._poll_periodically()
    assert told == [False, True]
    assert spawner.url != before
    assert spawner.url.endswith(f":{spawner.port}/user/ada")


async def test_nobody_meets_the_server_half_way_through_its_restart() -> None:
    record = make_record()
    spawner = make_spawner(RestartsSick, _record=record)
    await spawner.start()
    record.lifecycle = State.READY
    spawner.sick = True
    assert await asyncio.gather(*(spawner.poll_once() for _ in range(5))) == [None] * 5
    assert spawner.calls.count("start") == 2


class PollIsDeaf(StartsNothing):
    """The first poll goes on whatever happens, until it is let go."""

    async def poll(self) -> int | None:
        if "poll" in self.calls:
            return await super().poll()
        self.calls.append("poll")
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                continue
        return 7


async def test_a_poll_that_does_not_end_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "GIVE_UP_SECONDS", 0.01)
    spawner = make_spawner(PollIsDeaf)
    spawner.let_go = asyncio.Event()
    first = asyncio.ensure_future(spawner.poll_once())
    while not spawner.calls:
        await asyncio.sleep(0)
    await spawner._give_up_poll()
    assert not first.done() and await spawner.poll_once() == 0
    spawner.let_go.set()
    assert await first == 7
    assert spawner._poll_in_flight is None


def test_a_running_server_s_spawner_keeps_only_what_differs_from_its_class() -> None:
    """Nothing that can be read or assigned changes by that, and other objects of the class keep their own values."""
    first, second = make_spawner(StartsNothing, http_timeout=7), make_spawner(StartsNothing)
    before = {name: getattr(first, name) for name in first.trait_names() if name not in ("db", "orm_spawner")}
    size = len(first._trait_values)
    first._keep_less()
    assert len(first._trait_values) < size
    assert {name: getattr(first, name) for name in before} == before
    assert first.trait_has_value("start_timeout") and not first.trait_has_value("no such")
    seen: list[object] = []
    first.observe(seen.append, "start_timeout")
    first.start_timeout = 5
    assert (first.start_timeout, len(seen)) == (5, 1) and second.start_timeout == StartsNothing().start_timeout
    with pytest.raises(TraitError):
        first.start_timeout = "soon"
    assert copy.copy(first).http_timeout == 7


def test_watched_or_configured_settings_are_given_to_an_object_as_ever() -> None:
    """Whatever a subclass watches, checks or lets be configured is told, checked, and wins over the configuration."""
    seen: list[object] = []

    class Watching(StartsNothing):
        mine = Unicode().tag(config=True)

        @observe("public_url")
        def _note(self, change: Any) -> None:
            seen.append(change.new)

        @validate("oauth_client_id")
        def _longer(self, proposal: Any) -> str:
            return f"{proposal.value}!"

        def _proxy_spec_changed(self, old: str, new: str) -> None:
            seen.append(new)

    config = Config()
    config.Watching.mine = "configured"
    with pytest.warns(DeprecationWarning, match="_proxy_spec_changed"):
        make_spawner(Watching, proxy_spec="/user/ada/")
    assert seen == ["/user/ada/"]
    seen.clear()
    spawner = make_spawner(
        Watching, public_url="/here", oauth_client_id="x", mine="given", config=config
    )
    assert seen == ["/here"]
    assert (spawner.oauth_client_id, spawner.mine, spawner.user.name) == ("x!", "given", "ada")
    assert make_spawner(StartsNothing, parent=spawner).config is spawner.config
    with pytest.raises(TraitError):
        make_spawner(StartsNothing, user_options=3)

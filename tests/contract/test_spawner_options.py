"""Forms, options, profiles and group overrides (config §9.5, §9.6, spawner-system S7)."""

from __future__ import annotations

import logging
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from tornado import web
from traitlets import TraitError, Unicode
from traitlets.config import Config

from jupyterhub.spawner import SpawnException
from jupyterhub.spawning.fakes import StartsNothing

from .spawner_world import make_spawner, make_user


class Asked(StartsNothing):
    image = Unicode("base").tag(config=True)


PROFILES: list[dict[str, Any]] = [
    {"display_name": "Basic Python", "description": "Small & quick", "default": False,
     "kubespawner_override": {"image": "basic", "mem_limit": "1G"}},
    {"display_name": "Data Science", "slug": "data", "default": True, "overrides": {"image": "data"},
     "profile_options": {
         "size": {
             "display_name": "Size",
             "choices": {
                 "small": {"display_name": "Small", "overrides": {"cpu_limit": 1}},
                 "large": {"display_name": "Large", "default": True, "overrides": {"cpu_limit": 4}},
             },
         },
         "image": {
             "display_name": "Image",
             "choices": {"latest": {"display_name": "Latest"}},
             "unlisted_choice": {
                 "enabled": True, "display_name": "Another", "validation_regex": "^[a-z]+:[0-9]+$",
                 "validation_message": "write name:number", "overrides": {"image": "registry/{value}"},
             },
         },
     }},
    {"display_name": "GPU", "groups": ["gpu"], "overrides": {"image": "gpu"}},
]  # fmt: skip


def with_profiles(groups: tuple[str, ...] = (), **more: Any) -> Any:
    return make_spawner(Asked, user=make_user(group_names=groups), profiles=PROFILES, **more)


class FormReader(HTMLParser):
    """What a browser would submit: checked radio buttons, selected options, texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.chosen: dict[str, list[str]] = {}
        self.offered: dict[str, list[str]] = {}
        self.labelled: set[str] = set()
        self.ids: set[str] = set()
        self._select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            assert found["id"] not in self.ids
            self.ids.add(found["id"])
        if tag == "label":
            self.labelled.add(found["for"])
        elif tag == "input" and found.get("type") == "radio":
            self.offered.setdefault(found["name"], []).append(found["value"])
            if "checked" in found:
                self.chosen[found["name"]] = [found["value"]]
        elif tag == "input":
            self.chosen[found["name"]] = [found.get("value", "")]
        elif tag == "select":
            self._select = found["name"]
        elif tag == "option":
            self.offered.setdefault(self._select, []).append(found["value"])
            if "selected" in found or self._select not in self.chosen:
                self.chosen[self._select] = [found["value"]]


# -- forms --


async def test_without_a_form_nothing_is_asked() -> None:
    assert await make_spawner(Asked).get_options_form() == ""
    assert not make_spawner(Asked).options_form


async def test_a_form_may_be_a_text_or_a_function_of_the_spawner_also_async() -> None:
    async def later(spawner: Any) -> str:
        return f"<p>{spawner.user.name}</p>"

    assert await make_spawner(Asked, options_form="<p>x</p>").get_options_form() == "<p>x</p>"
    assert await make_spawner(Asked, options_form=later).get_options_form() == "<p>ada</p>"


FORM = {"name": ["x"], "box": ["on"], "many": ["a", "b"], "file": [{"filename": "f", "body": b""}]}


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("passthrough", FORM),
        ("simple", {"name": "x", "box": True, "many": ["a", "b"], "file": {"filename": "f", "body": b""}}),
        (lambda form: {"got": sorted(form)}, {"got": ["box", "file", "many", "name"]}),
        (lambda form, spawner: {"user": spawner.user.name}, {"user": "ada"}),
    ],
)
def test_ways_from_form_to_options(how: Any, options: Any) -> None:
    assert make_spawner(Asked, options_from_form=how).run_options_from_form(FORM) == options


def test_an_unknown_way_is_an_error_when_it_is_used() -> None:
    with pytest.raises(ValueError, match=r"Asked\.options_from_form is 'clever'"):
        make_spawner(Asked, options_from_form="clever").run_options_from_form(FORM)


def test_a_query_is_read_like_a_form_unless_redefined() -> None:
    assert make_spawner(Asked, options_from_form="simple").options_from_query({"a": ["1"]}) == {"a": "1"}


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {"a": ["1"]}),
        ({"options_from_form": "passthrough"}, {"a": ["1"]}),
        ({"options_from_form": "simple"}, {"a": "1"}),
    ],
)
def test_a_plugin_may_call_the_setting_whatever_it_was_set_to(
    settings: dict[str, Any], options: dict[str, Any]
) -> None:
    assert make_spawner(Asked, **settings).options_from_form({"a": ["1"]}) == options
    assert Asked(config=Config(Spawner=settings)).options_from_form({"a": ["1"]}) == options
    later = make_spawner(Asked)
    for name, value in settings.items():
        setattr(later, name, value)
    assert later.options_from_form({"a": ["1"]}) == options


# -- applying options --


async def apply(spawner: Any, options: dict[str, Any]) -> Any:
    await spawner._run_apply_user_options(options)
    return spawner


async def test_a_mapping_assigns_and_reads_texts_as_their_setting_does() -> None:
    spawner = make_spawner(Asked, apply_user_options={"m": "mem_limit", "d": "debug", "p": "start_timeout"})
    await apply(spawner, {"m": "2G", "d": "true", "p": "5"})
    assert (spawner.mem_limit, spawner.debug, spawner.start_timeout) == (2 * 1024**3, True, 5)


async def test_what_no_setting_is_named_for_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    spawner = make_spawner(Asked, apply_user_options={"x": "no_such_setting"})
    spawner.log.propagate = True
    with caplog.at_level(logging.WARNING):
        await apply(spawner, {"x": "1", "y": "2"})
    assert "options y" in caplog.text
    assert "no_such_setting" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        await apply(make_spawner(Asked), {"lost": "1"})
    assert "lost" in caplog.text


async def test_a_function_may_be_async_and_its_errors_are_the_requests_fault() -> None:
    async def applies(spawner: Any, options: Any) -> None:
        spawner.image = options["image"]

    spawner = make_spawner(Asked, apply_user_options=applies)
    assert (await apply(spawner, {"image": "new"})).image == "new"
    with pytest.raises(web.HTTPError) as raised:
        await apply(spawner, {})
    assert raised.value.status_code == 400


async def test_a_refusal_with_a_status_of_its_own_passes() -> None:
    def refuses(spawner: Any, options: Any) -> None:
        raise SpawnException("not today", reason="closed", status_code=403)

    with pytest.raises(SpawnException, match="not today") as raised:
        await apply(make_spawner(Asked, apply_user_options=refuses), {"a": 1})
    assert raised.value.status_code == 403


async def test_load_user_options_of_a_subclass_is_called_and_may_be_async() -> None:
    class Loads(Asked):
        async def load_user_options(self, user_options: dict[str, Any]) -> None:
            self.image = user_options["image"]

    assert (await apply(make_spawner(Loads), {"image": "chosen"})).image == "chosen"


async def test_one_without_argument_calls_itself_and_is_left_alone() -> None:
    class LikeKubespawner(Asked):
        async def load_user_options(self) -> None:  # type: ignore[override]
            raise AssertionError("called by the Hub")

    await apply(make_spawner(LikeKubespawner), {"profile": "x"})


# -- profiles --


async def test_profiles_give_a_form_with_labels_and_the_default_chosen() -> None:
    form = FormReader(await with_profiles().get_options_form())
    assert form.offered["profile"] == ["Basic Python", "data"]
    assert form.chosen["profile"] == ["data"]
    assert form.ids - {"profiles-list"} == form.labelled


async def test_what_the_form_submits_is_what_the_spawner_applies() -> None:
    spawner = with_profiles()
    form = FormReader(await spawner.get_options_form())
    options = spawner.run_options_from_form(form.chosen)
    assert options == {"profile": "data", "size": "large", "image": "latest"}
    await apply(spawner, options)
    assert (spawner.image, spawner.cpu_limit) == ("data", 4)


async def test_the_last_choice_is_offered_again() -> None:
    chosen = {"profile": "data", "size": "small", "image": {"unlisted_choice": "mine:3"}}
    form = FormReader(await with_profiles(user_options=chosen).get_options_form())
    spawner = with_profiles()
    assert spawner.run_options_from_form(form.chosen) == chosen
    await apply(spawner, chosen)
    assert (spawner.image, spawner.cpu_limit) == ("registry/mine:3", 1)


@pytest.mark.parametrize("name", ["Basic Python", "basic-python"])
async def test_the_same_choices_by_api_by_any_of_its_names(name: str) -> None:
    spawner = await apply(with_profiles(), {"profile": name})
    assert (spawner.image, spawner.mem_limit) == ("basic", 1024**3)


async def test_no_choice_means_the_default_profile_with_its_defaults() -> None:
    spawner = await apply(with_profiles(), {})
    assert (spawner.image, spawner.cpu_limit) == ("data", 4)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"profile": "other"}, "profile: 'other'"),
        ({"profile": "GPU"}, "profile: 'GPU'"),
        ({"profile": "data", "size": "huge"}, "size: 'huge'"),
        ({"profile": "data", "size": {"unlisted_choice": "x"}}, "size:"),
        ({"profile": "data", "image": {"unlisted_choice": "Bad Name"}}, "image: write name:number"),
    ],
)
async def test_what_is_not_offered_is_refused_naming_the_field(options: dict[str, Any], field: str) -> None:
    with pytest.raises(web.HTTPError) as raised:
        await apply(with_profiles(), options)
    assert raised.value.status_code == 400
    assert field in raised.value.jupyterhub_message  # type: ignore[attr-defined]


async def test_members_of_a_group_see_its_profiles() -> None:
    spawner = with_profiles(groups=("gpu",))
    assert "GPU" in FormReader(await spawner.get_options_form()).offered["profile"]
    assert (await apply(spawner, {"profile": "GPU"})).image == "gpu"


async def test_profiles_may_be_a_function_also_async() -> None:
    async def offered(spawner: Any) -> list[dict[str, Any]]:
        return [{"display_name": f"For {spawner.user.name}", "overrides": {"image": "own"}}]

    spawner = make_spawner(Asked, profiles=offered)
    assert FormReader(await spawner.get_options_form()).offered == {"profile": ["For ada"]}
    assert (await apply(spawner, {"profile": "For ada"})).image == "own"


async def test_texts_of_the_administrator_do_not_become_markup() -> None:
    spawner = make_spawner(Asked, profiles=[{"display_name": '<b>"x"', "description": "<script>"}])
    html = await spawner.get_options_form()
    assert "<b>" not in html
    assert "<script>" not in html


async def test_profiles_of_a_class_as_the_specification_writes_them() -> None:
    class ProfileSpawner(Asked):
        profiles = [
            {
                "display_name": "Basic Python",
                "default": True,
                "kubespawner_override": {"image": "b", "cpu_limit": 1},
            },
            {"display_name": "Data Science", "kubespawner_override": {"image": "d", "cpu_limit": 2}},
        ]

        def options_from_form(self, formdata: Any) -> Any:
            return {"profile": formdata.get("profile", [None])[0]}

        def load_user_options(self, user_options: Any) -> None:
            name = user_options.get("profile")
            if name:
                profile: Any = next(p for p in self.profiles if p["display_name"] == name)
                for key, value in profile["kubespawner_override"].items():
                    setattr(self, key, value)

    spawner = make_spawner(ProfileSpawner)
    form = FormReader(await spawner.get_options_form())
    assert form.chosen == {"profile": ["Basic Python"]}
    options = spawner.run_options_from_form({"profile": [form.offered["profile"][1]]})
    assert options == {"profile": "Data Science"}
    await apply(spawner, options)
    assert (spawner.image, spawner.cpu_limit) == ("d", 2)
    with pytest.raises(web.HTTPError) as raised:
        await apply(spawner, {"profile": "Unknown"})
    assert raised.value.status_code == 400


@pytest.mark.parametrize("profiles", [[{}], ["x"], [{"description": "d"}]])
async def test_a_malformed_profile_is_named(profiles: Any) -> None:
    with pytest.raises((TraitError, ValueError), match=r"profiles\[0\]"):
        await make_spawner(Asked, profiles=profiles).get_profiles()


# -- group overrides --


OVERRIDES = {
    "02": {
        "groups": ["big"],
        "spawner_override": {"mem_limit": "8G", "environment": {"B": "2", "GONE": None}},
    },
    "01": {"groups": ["big", "small"], "spawner_override": {"mem_limit": "1G", "environment": {"A": "1"}}},
    "03": {"groups": ["other"], "spawner_override": {"mem_limit": "9G"}},
    "04": {"groups": ["small"], "spawner_override": {"image": lambda spawner: spawner.user.name}},
}


async def test_overrides_apply_in_order_and_merge() -> None:
    spawner = make_spawner(
        Asked,
        user=make_user(group_names=("big",)),
        group_overrides=OVERRIDES,
        environment={"GONE": "x", "KEPT": "y"},
    )
    await spawner.apply_group_overrides()
    assert spawner.mem_limit == 8 * 1024**3
    assert spawner.environment == {"A": "1", "B": "2", "KEPT": "y"}


async def test_overrides_may_be_functions_and_users_may_be_rows() -> None:
    async def overrides(spawner: Any) -> Any:
        return OVERRIDES

    user = make_user(groups=[SimpleNamespace(name="small")])
    spawner = make_spawner(Asked, user=user, group_overrides=overrides)
    await spawner.apply_group_overrides()
    assert (spawner.mem_limit, spawner.image) == (1024**3, "ada")


def test_malformed_overrides_are_refused_when_they_are_set() -> None:
    with pytest.raises(TraitError, match="group_overrides"):
        make_spawner(Asked, group_overrides={"01": {"groups": "big"}})


async def test_an_override_that_does_not_fit_names_the_setting() -> None:
    overrides = {"1": {"groups": ["big"], "spawner_override": {"start_timeout": "soon"}}}
    spawner = make_spawner(Asked, user=make_user(group_names=("big",)), group_overrides=overrides)
    with pytest.raises(TraitError, match="start_timeout"):
        await spawner.apply_group_overrides()

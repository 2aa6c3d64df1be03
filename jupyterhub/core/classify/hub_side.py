"""Causes on the Hub's side: decisions, hooks, time-outs, the proxy, mistakes of plugins."""

from __future__ import annotations

import errno as errors_of_system
from typing import Final

from .evidence import ASK, RETRY, Evidence, Rule, Verdict, duration, one_line, search

__all__ = ["DECISION_RULES", "LAST_RULES", "TIME_RULES", "unexplained"]


def _option(given: Evidence) -> Verdict | None:
    if given.error_type == "SpawnException" or given.phase != "preparing":
        return None
    by_name = given.error_type in ("TraitError", "OptionRefused") or given.call == "apply_user_options"
    if not by_name and not search(r"\b(user[ _]options?|profile)\b", given.message):
        return None
    return Verdict(
        "option-refused",
        f"One of the chosen options cannot be used: {one_line(given.message)}",
        "Choose other options and start again.",
    )


def _refused(given: Evidence) -> Verdict | None:
    on_purpose = given.http_status is not None and given.http_status < 500
    if given.error_type == "SpawnException" or (on_purpose and given.phase in ("preparing", "starting")):
        return Verdict(
            "refused",
            given.message or "The start was refused.",
            "If this should not be so, ask the administrator.",
        )
    return None


def _cancelled(given: Evidence) -> Verdict | None:
    if given.error_type in ("CancelledError", "StartCancelled"):
        return Verdict("cancelled", "The start was cancelled.", "Start the server again when you want it.")
    return None


def _already_there(given: Evidence) -> Verdict | None:
    if given.error_type == "ServerStillRunning":
        return Verdict("still-running", given.message, "The administrator has to end the old server first.")
    return None


def _log_in(given: Evidence) -> Verdict | None:
    if given.error_type == "AuthenticationStale":
        return Verdict("log-in-stale", "Your log-in has to be renewed.", "Log in again, then start the server.")
    return None


def _routing(given: Evidence) -> Verdict | None:
    """The server answers by now: neither it nor an engine has anything to do with this."""
    if given.phase != "routing" and given.error_type != "ProxyUnavailable":
        return None
    if given.timed_out:
        return Verdict("route-timeout", "The proxy did not take the server's route in time.", RETRY)
    said = one_line(given.message)
    return Verdict("proxy-failed", f"The proxy could not be told about the server{f': {said}' if said else '.'}", RETRY)


def _auth_state(given: Evidence) -> Verdict | None:
    if given.auth_state_missing and given.call in ("auth_state_hook", "pre_spawn_hook") and not given.timed_out:
        if given.call == "pre_spawn_hook" and not search(r"auth_?state|NoneType", given.message):
            return None
        return Verdict(
            "auth-state-missing",
            f"{given.call} needs what your log-in brought (the authentication state), and there is none.",
            "Log out, log in again and start the server; if that does not help, the administrator has to look at "
            "Authenticator.enable_auth_state and JUPYTERHUB_CRYPT_KEY.",
        )
    return None


def _hub_not_found(given: Evidence) -> Verdict | None:
    if given.phase not in ("starting", "connecting"):
        return None
    # The server's own words, those of JupyterHub 6 last. One that found the Hub after all goes on to say where it runs.
    found = search(
        r"No Hub (?:at|answers at) (\S+?)\.?(?: \(attempt|\s)|Failed to connect to my Hub at (\S+)", given.output
    )
    if found is None or search(r"is running at", given.output[found.end() :]):
        return None
    address = found.group(1) or found.group(2)
    return Verdict(
        "unreachable",
        f"The server was started, but could not reach the Hub at {address}.",
        "The administrator has to set JupyterHub.hub_ip and hub_connect_ip so that the machines and containers of servers "
        "can reach the Hub there, and to look at firewalls in between.",
    )


DECISION_RULES: Final[tuple[Rule, ...]] = (
    _option,
    _refused,
    _cancelled,
    _already_there,
    _log_in,
    _routing,
    _auth_state,
    _hub_not_found,
)
"""Tried first: somebody decided, or it is known where it happened."""


def _bad_answer(given: Evidence) -> Verdict | None:
    if given.phase != "connecting" or given.exit_status is not None:
        return None
    if given.answer_status is not None:
        return Verdict(
            "bad-answer",
            f"The server runs, but gave nothing but errors{_within(given.http_timeout)} "
            f"(HTTP status {given.answer_status}).",
            "Look at the lines below; the administrator has to find out what is wrong with the server.",
        )
    said = search(r"does not speak HTTP; (it said .*)|(.*(?:WRONG_VERSION_NUMBER|CERTIFICATE_VERIFY_FAILED).*)", given.message)
    if said:
        what = one_line(said.group(1) or said.group(2))
        return Verdict("bad-answer", f"Something at the server's address does not speak as a server does: {what}", ASK)
    return None


def _timed_out(given: Evidence) -> Verdict | None:
    if not given.timed_out:
        return None
    if given.phase == "connecting":
        if given.exit_status is not None:
            return None
        return Verdict(
            "port-never-opened",
            f"The server was started but did not answer{_within(given.http_timeout)}.",
            f"Try again; where starting takes long, the administrator can raise {given.plugin}.http_timeout.",
        )
    if given.phase == "preparing":
        what = given.call or "Preparing the start"
        return Verdict("prepare-timeout", f"{what} took too long{_more_than(given.start_timeout)}.", RETRY)
    last = f" The last that it said: {given.last_line}" if given.last_line else ""
    return Verdict(
        "start-timeout",
        f"The server did not start{_within(given.start_timeout)}.{last}",
        f"Try again; where starting takes long, the administrator can raise {given.plugin}.start_timeout.",
    )


def _within(seconds: float) -> str:
    return f" within {duration(seconds)}" if seconds else ""


def _more_than(seconds: float) -> str:
    return f" (more than {duration(seconds)})" if seconds else ""


TIME_RULES: Final[tuple[Rule, ...]] = (_bad_answer, _timed_out)
"""Tried when nothing that was said has told the cause."""


def _unreachable(given: Evidence) -> Verdict | None:
    said = f"{given.message}\n{given.because}"
    if given.errno in (errors_of_system.ECONNREFUSED, errors_of_system.EHOSTUNREACH) or search(
        r"Connection refused|No route to host|Cannot connect to host", said
    ):
        what = "The server" if given.phase == "connecting" else "A system that is needed to start servers"
        return Verdict("unreachable", f"{what} cannot be reached over the network: {one_line(given.message)}", RETRY)
    return None


def _plugin_mistake(given: Evidence) -> Verdict | None:
    if given.error_type == "PluginMistake":
        return Verdict("plugin-mistake", one_line(given.message), ASK)
    programming = (
        "TypeError", "AttributeError", "NameError", "UnboundLocalError", "IndexError", "KeyError",
        "NotImplementedError", "AssertionError", "SyntaxError", "RecursionError",
    )  # fmt: skip
    if given.error_type in programming and given.phase == "starting":
        said = f"{given.error_type}: {one_line(given.message)}" if given.message else given.error_type
        return Verdict("plugin-mistake", f"{given.plugin} made a mistake: {said}", ASK)
    return None


def _hook(given: Evidence) -> Verdict | None:
    if given.phase == "preparing" and given.error_type:
        said = one_line(given.message) or given.error_type
        if given.call:
            return Verdict("hook-failed", f"Preparing the start failed in {given.call}: {said}", ASK)
        return Verdict("hook-failed", f"Preparing the start failed: {said}", ASK)
    return None


LAST_RULES: Final[tuple[Rule, ...]] = (_unreachable, _plugin_mistake, _hook)


def unexplained(given: Evidence) -> Verdict:
    """Return a verdict that at least says the error."""
    said = one_line(given.message)
    kind = given.error_type or "an error"
    return Verdict("unexplained", f"The start failed with {kind}{f': {said}' if said else '.'}", ASK)

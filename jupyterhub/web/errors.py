"""What the causes of core.errors are in HTTP: status, headers, message, page. The only such table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import responses
from typing import Any

from tornado.web import HTTPError

from ..core import errors

#: The first class in the method resolution order of an error that is listed here decides.
STATUS_OF: Mapping[type[errors.HubError], int] = {
    errors.InvalidRequest: 400,
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.AccessRefused: 403,
    errors.Unsuitable: 400,
    errors.TooManyServers: 429,
    errors.TooManyStarts: 429,
    errors.HubShuttingDown: 503,
    errors.StartCancelled: 409,
    errors.StartFailed: 500,
    errors.PluginMistake: 500,
    errors.LoginNotChecked: 500,
    errors.StopFailed: 500,
    errors.IllegalMove: 500,
    errors.LeaseLost: 503,
    errors.StoreUnavailable: 503,
    errors.ProxyUnavailable: 503,
    errors.HubError: 500,
}

#: What a person can do about it, for the causes where that is not obvious.
ADVICE_OF: Mapping[type[errors.HubError], str] = {
    errors.AuthenticationStale: "Log out and log in again, then repeat what you were doing.",
    errors.PermissionMissing: "If you think that you should be allowed to do this, ask whoever runs this hub.",
    errors.TooManyServers: "Stop a server that you do not need, or try again later.",
    errors.TooManyStarts: "Nothing is wrong with your server. Wait a moment, then start it again.",
    errors.StoreUnavailable: "Reload the page in a moment. Running servers are not affected.",
    errors.ProxyUnavailable: "Reload the page in a moment.",
    errors.LeaseLost: "Reload the page in a moment.",
    errors.LoginNotChecked: "If it happens again, tell whoever runs this hub what you did and when.",
    errors.HubShuttingDown: "Running servers are not affected. Reload the page in a moment.",
}

#: What is said in place of an error's own message, which names addresses and accounts that are for the log only: people
#: who are not logged in read it too.
MESSAGE_OF: Mapping[type[errors.HubError], str] = {
    errors.StoreUnavailable: "The Hub's database does not answer. Please try again in a moment.",
}

_ADVICE_BY_STATUS: Mapping[int, str] = {
    403: "If you think that you should be allowed to do this, ask whoever runs this hub.",
    404: "Check the address, or go back to your home page and start from there.",
    405: "Go back to your home page and start from there.",
    429: "Wait a moment, then try again.",
    500: "Try again. If it happens again, tell whoever runs this hub what you did and when.",
    502: "Reload the page in a moment.",
    503: "Your server may have stopped. Go to your home page and start it again.",
    504: "Reload the page in a moment.",
}


@dataclass(frozen=True)
class ErrorAnswer:
    """One error as it is answered.

    `message` is plain text ('' if nothing was said), `message_html` trusted HTML of a plugin, `reason` the reason
    phrase, `advice` a sentence about what to do next.
    """

    status: int
    reason: str
    message: str = ""
    message_html: str = ""
    advice: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def phrase_of(status: int) -> str:
    """Return the standard reason phrase of a status code, or 'Error' for a number nobody registered."""
    return responses.get(status, "Error")


def answer_for(error: BaseException | None, status: int = 500) -> ErrorAnswer:
    """Return how to answer an exception.

    `status` is what Tornado would answer without the table. Attributes that plugins put on exceptions count
    whatever the type (rest-api §1.3): `jupyterhub_message`, `jupyterhub_html_message`, `headers`.
    """
    message, reason, advice, headers = "", "", "", {}
    if isinstance(error, errors.HubError):
        status = _status_of(error)
        message = _first(MESSAGE_OF, error) or error.message
        advice = _first(ADVICE_OF, error) or ""
        retry_after = getattr(error, "retry_after", None)
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        failure = getattr(error, "failure", None)
        if failure is not None and not isinstance(error, errors.StartCancelled):
            status = int(getattr(failure, "status", status) or status)
            advice = getattr(failure, "next_step", "") or advice
    elif isinstance(error, HTTPError):
        status = error.status_code
        message = _message_of(error)
        reason = error.reason or ""
    html = str(getattr(error, "jupyterhub_html_message", "") or "")
    message = str(getattr(error, "jupyterhub_message", "") or message)
    headers.update({str(key): str(value) for key, value in (getattr(error, "headers", None) or {}).items()})
    return ErrorAnswer(
        status=status,
        reason=reason or phrase_of(status),
        message=message,
        message_html=html,
        advice=advice or _ADVICE_BY_STATUS.get(status, ""),
        headers=headers,
    )


def _status_of(error: errors.HubError) -> int:
    status: int = _first(STATUS_OF, error)
    return status


def _first(table: Mapping[type[errors.HubError], Any], error: errors.HubError) -> Any:
    for cls in type(error).__mro__:
        if cls in table:
            return table[cls]
    return None


def _message_of(error: HTTPError) -> str:
    text = error.log_message
    if not text:
        return ""
    try:
        # Also without arguments: Tornado doubled the percent signs of a text that came without any.
        return text % error.args
    except (TypeError, ValueError):
        return text

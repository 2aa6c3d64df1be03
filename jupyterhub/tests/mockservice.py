"""A stand-in for a service, with or without a URL: run with `python -m jupyterhub.tests.mockservice`.

Below its prefix: `/env` gives its environment, `/api/…` what the Hub's API answers to its token, `/whoami` the user
whose token was sent, `/owhoami` the user who logged in through the Hub; every other path is repeated.
"""

import os
from urllib.parse import urlsplit

from tornado import httpserver, ioloop, log, web
from tornado.httpclient import AsyncHTTPClient

from jupyterhub.services.auth import (
    HubAuthenticated,
    HubOAuth,
    HubOAuthCallbackHandler,
    HubOAuthenticated,
)
from jupyterhub.tests.mocksu import EchoHandler, EnvHandler, tls_options
from jupyterhub.utils import make_ssl_context, url_path_join


class APIHandler(web.RequestHandler):
    """Asks the Hub's API with the token of the service."""

    async def get(self, path: str) -> None:
        files = tls_options()
        context = None
        if files is not None:
            context = make_ssl_context(files["keyfile"], files["certfile"], cafile=files["ca_certs"])
        answer = await AsyncHTTPClient().fetch(
            url_path_join(os.environ["JUPYTERHUB_API_URL"], path),
            headers={"Authorization": f"token {os.environ['JUPYTERHUB_API_TOKEN']}"},
            raise_error=False,
            ssl_options=context,
        )
        self.set_status(answer.code)
        self.set_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.write(answer.body)


class TellsUser(web.RequestHandler):
    """Answers with the model of whoever asks."""

    @web.authenticated
    def get(self) -> None:
        self.finish(self.current_user)


class WhoAmIHandler(HubAuthenticated, TellsUser):
    """Tells whose token was sent."""


class OWhoAmIHandler(HubOAuthenticated, TellsUser):
    """Tells who logged in through the Hub."""


def main() -> None:
    """Listen at the service's URL, or on any port when it has none, until told to end."""
    log.enable_pretty_logging()
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/")
    address = urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", ""))
    application = web.Application(
        [
            (url_path_join(prefix, "env"), EnvHandler),
            (url_path_join(prefix, r"api/(.*)"), APIHandler),
            (url_path_join(prefix, r"whoami/?"), WhoAmIHandler),
            (url_path_join(prefix, r"owhoami/?"), OWhoAmIHandler),
            (url_path_join(prefix, "oauth_callback"), HubOAuthCallbackHandler),
            (r".*", EchoHandler),
        ],
        cookie_secret=os.urandom(32),
        hub_auth=HubOAuth.instance() if os.environ.get("JUPYTERHUB_CLIENT_ID") else None,
    )
    server = httpserver.HTTPServer(application, ssl_options=tls_options())
    server.listen(address.port or 0, address.hostname or "127.0.0.1")
    try:
        ioloop.IOLoop.current().start()
    except KeyboardInterrupt:
        # The whole group was told to end; there is nothing to clean up.
        pass


if __name__ == "__main__":
    main()

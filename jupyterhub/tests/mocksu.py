"""A stand-in for a user's server, in a tenth of a second: run with `python -m jupyterhub.tests.mocksu`.

It listens at JUPYTERHUB_SERVICE_URL. A path that ends in `/args` gives the command line and one in `/env` the
environment, both as JSON; every other path is repeated. It ends when whoever started it is gone.
"""

import json
import os
import ssl
import sys
from typing import Any
from urllib.parse import urlsplit

from tornado import httpserver, ioloop, log, web


class EchoHandler(web.RequestHandler):
    """Repeats the path it was asked for."""

    def get(self) -> None:
        self.write(self.request.path)


class ArgsHandler(web.RequestHandler):
    """Tells the command line."""

    def get(self) -> None:
        self.write(json.dumps(sys.argv))


class EnvHandler(web.RequestHandler):
    """Tells the environment."""

    def get(self) -> None:
        self.finish(dict(os.environ))


def tls_options() -> dict[str, Any] | None:
    """Return Tornado's `ssl_options` when internal TLS is on; whoever connects has to show a certificate."""
    if not os.environ.get("JUPYTERHUB_SSL_KEYFILE"):
        return None
    return {
        "keyfile": os.environ["JUPYTERHUB_SSL_KEYFILE"],
        "certfile": os.environ["JUPYTERHUB_SSL_CERTFILE"],
        "ca_certs": os.environ["JUPYTERHUB_SSL_CLIENT_CA"],
        "cert_reqs": ssl.CERT_REQUIRED,
    }


def main() -> None:
    """Listen until whoever started us is gone."""
    log.enable_pretty_logging()
    address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    application = web.Application([(r".*/args", ArgsHandler), (r".*/env", EnvHandler), (r".*", EchoHandler)])
    server = httpserver.HTTPServer(application, ssl_options=tls_options())
    server.listen(address.port or 80, address.hostname or "")
    loop = ioloop.IOLoop.current()
    parent = os.getppid()

    def end_with_parent() -> None:
        if os.getppid() != parent:
            loop.stop()

    ioloop.PeriodicCallback(end_with_parent, 1000).start()
    try:
        loop.start()
    except KeyboardInterrupt:
        # The whole group was told to end; there is nothing to clean up.
        pass


if __name__ == "__main__":
    main()

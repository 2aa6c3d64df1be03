"""The smallest thing that counts as a single-user server: answers HTTP under its prefix, boots in milliseconds.

`python tiny_server.py` listens at JUPYTERHUB_SERVICE_URL. `<prefix>api` answers with the version header,
`<prefix>env` with the environment, anything else echoes the path.
"""

import http.server
import json
import os
import sys
from urllib.parse import urlparse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.rstrip("/").rsplit("/", 1)[-1]
        value = dict(os.environ) if name == "env" else sys.argv if name == "args" else {"path": self.path}
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    url = urlparse(os.environ["JUPYTERHUB_SERVICE_URL"])
    http.server.ThreadingHTTPServer((url.hostname or "127.0.0.1", url.port or 0), Handler).serve_forever()

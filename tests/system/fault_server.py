"""A server in which something is wrong: `python fault_server.py HOW`, at JUPYTERHUB_SERVICE_URL.

HOW: good; broken (answers 500); old (answers 500 and names an old JupyterHub); crash, killed (on request, when they
are ready); shell (no web server).
"""

import http.server
import os
import signal
import socket
import sys
from urllib.parse import urlparse

HOW = sys.argv[1]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.endswith("/fail"):
            if HOW == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            print("the disk of results is gone", flush=True)
            os._exit(3)
        self.send_response(500 if HOW in ("broken", "old") else 200)
        if HOW == "old":
            self.send_header("X-JupyterHub-Version", "0.9.6")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    url = urlparse(os.environ["JUPYTERHUB_SERVICE_URL"])
    address = (url.hostname or "127.0.0.1", url.port or 0)
    if HOW == "shell":
        with socket.create_server(address) as listener:
            while True:
                connection, _ = listener.accept()
                connection.sendall(b"login:\r\n\r\n")
                connection.close()
    http.server.ThreadingHTTPServer(address, Handler).serve_forever()

"""The data plane: the process that carries everyone's requests. The program is called `jupyterhub-proxy`.

It speaks configurable-http-proxy's command line and REST API, keeps its routes on disk and lives on when the
hub does not. It is an island: standard library, uvloop, httptools and `core.routing` only, because it must be
small.
"""

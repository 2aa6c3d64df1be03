"""The event log (metrics §5). Imported only by sites that configure it: the library costs a second to import."""

from __future__ import annotations

from typing import Any

SCHEMA = """
"$id": https://schema.jupyter.org/jupyterhub/events/server-action
version: "1"
title: A server was started or stopped
description: >-
  One record for each start that succeeded, each stop that somebody asked for, and each restart that nobody asked for.
type: object
required: [action, username, servername]
properties:
  action:
    enum: [start, stop, restart]
    description: What happened
  username:
    type: string
    description: Name of the server's owner
  servername:
    type: string
    description: Name of the server, empty for the default one
"""


def make_event_logger(app: Any) -> Any:
    """Return the configured event logger with our schema registered."""
    from jupyter_events import EventLogger

    logger = EventLogger(parent=app)
    logger.register_event_schema(SCHEMA)
    return logger

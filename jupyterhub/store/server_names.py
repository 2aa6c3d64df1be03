"""Named servers whose names were possible in an older release and are not any more (config §11)."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import orm
from ..core.errors import InvalidDefinition
from ..core.slugs import is_valid_safe_slug, safe_slug
from .changes import note_change


@dataclass
class OddNames:
    """What was found, as texts for the log: `user/server`."""

    renamed: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def check(session: Session, *, rename: bool) -> OddNames:
    """Look at the names of all named servers; with `rename`, give those that do not run a possible one.

    The old name becomes the display name. Raises InvalidDefinition for a row that has a display name already.
    """
    found = OddNames()
    named = session.execute(
        select(orm.Spawner.id, orm.Spawner.user_id, orm.Spawner.name).where(orm.Spawner.name != "")
    ).all()
    for row_id, user_id, name in named:
        if is_valid_safe_slug(name):
            continue
        row = session.get(orm.Spawner, row_id)
        if row is None:
            continue
        user = session.scalar(select(orm.User.name).where(orm.User.id == user_id))
        text = f"{user}/{name}"
        if row.display_name and row.display_name != name:
            raise InvalidDefinition(
                f"The named server {text} has an impossible name although it has a display name, {row.display_name!r}; "
                "its row in the table spawners was not made by JupyterHub and needs a look"
            )
        if not rename:
            found.kept.append(text)
        elif row.started is not None:
            found.running.append(text)
        else:
            taken = {other for _, owner, other in named if owner == user_id}
            short = safe_slug(name, avoid_collisions=False)
            row.name = safe_slug(name) if short in taken else short
            row.display_name = name
            note_change(session, orm.User, user_id)
            found.renamed.append(f"{text} is {user}/{row.name} now")
    session.flush()
    return found

"""The schema of release 0.5, where the chain begins."""

revision = "19c0846f6344"
down_revision = None


def upgrade():
    pass


def downgrade():
    pass

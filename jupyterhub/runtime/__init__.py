"""Use cases of a running Hub: the only layer that waits on plugins."""

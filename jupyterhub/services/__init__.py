"""Services. Empty on purpose: the half for the Hub and the half for applications must load alone."""

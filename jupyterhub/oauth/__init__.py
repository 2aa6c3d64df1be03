"""The OAuth 2 provider that single-user servers and services log people in with."""

"""Log in by way of an OpenID Connect provider; its groups decide who may, and who administers the Hub.

    pip install ".[oauth,singleuser]"
    export JUPYTERHUB_CRYPT_KEY=$(openssl rand -hex 32)     # keep it: what it encrypts is lost without it
    export OAUTH_CLIENT_SECRET=...                          # from your provider
    jupyterhub -f examples/authentication/openid_connect.py
"""

import os

c = get_config()

HUB = os.environ.get("EXAMPLE_HUB_URL", "https://hub.example.org")
PROVIDER = os.environ.get("EXAMPLE_PROVIDER_URL", "https://id.example.org")

c.JupyterHub.authenticator_class = "generic-oauth"
c.GenericOAuthenticator.login_service = "Example"
c.GenericOAuthenticator.client_id = "hub"
c.GenericOAuthenticator.client_secret = os.environ["OAUTH_CLIENT_SECRET"]
c.GenericOAuthenticator.oauth_callback_url = f"{HUB}/hub/oauth_callback"

# These three are in the document PROVIDER/.well-known/openid-configuration.
c.GenericOAuthenticator.authorize_url = f"{PROVIDER}/authorize"
c.GenericOAuthenticator.token_url = f"{PROVIDER}/token"
c.GenericOAuthenticator.userdata_url = f"{PROVIDER}/userinfo"

# Which scopes bring which claims is up to the provider. `offline_access` asks for a refresh token.
c.GenericOAuthenticator.scope = ["openid", "profile", "offline_access"]
c.GenericOAuthenticator.extra_authorize_params = {"prompt": "consent"}
c.GenericOAuthenticator.username_claim = "preferred_username"

# The groups of the provider are the groups of the Hub, brought up to date at each log-in and refresh.
c.GenericOAuthenticator.manage_groups = True
c.GenericOAuthenticator.auth_state_groups_key = "oauth_user.groups"
c.GenericOAuthenticator.allowed_groups = {"staff", "admins"}
c.GenericOAuthenticator.admin_groups = {"admins"}

# The tokens are kept, encrypted; every five minutes the provider is asked whether the log-in still stands.
c.GenericOAuthenticator.enable_auth_state = True
c.GenericOAuthenticator.auth_refresh_age = 300

# Logging out of the Hub leads to the provider's own log-out.
c.GenericOAuthenticator.logout_redirect_url = f"{PROVIDER}/logout?client_id=hub&post_logout_redirect_uri={HUB}/hub/login"

"""Every import path and name that other people's code uses resolves (plugins §3 to §12).

The names are those seen in released plugins, services and deployments, and those that documentation promises. The
installed test helpers have a file of their own.
"""

from __future__ import annotations

import importlib
import inspect

import pytest

NAMES = {
    "jupyterhub": "__version__ version_info __file__ _jupyter_server_extension_points",
    "jupyterhub._data": "DATA_FILES_PATH",
    "jupyterhub._version": "__version__ _check_version version_info",
    "jupyterhub._xsrf_utils": (
        "check_xsrf_cookie get_xsrf_token _set_xsrf_cookie _needs_check_xsrf _get_xsrf_token_cookie"
    ),
    "jupyterhub.apihandlers": "APIHandler default_handlers base users",
    "jupyterhub.apihandlers.base": "APIHandler API404",
    "jupyterhub.apihandlers.auth": "TokenAPIHandler OAuthAuthorizeHandler OAuthTokenHandler",
    "jupyterhub.apihandlers.groups": "GroupListAPIHandler GroupAPIHandler GroupUsersAPIHandler",
    "jupyterhub.apihandlers.hub": "ShutdownAPIHandler RootAPIHandler InfoAPIHandler",
    "jupyterhub.apihandlers.proxy": "ProxyAPIHandler",
    "jupyterhub.apihandlers.users": (
        "APIHandler SelfAPIHandler UserListAPIHandler UserAPIHandler UserServerAPIHandler SpawnProgressAPIHandler "
        "UserTokenListAPIHandler UserTokenAPIHandler ActivityAPIHandler"
    ),
    "jupyterhub.app": (
        "JupyterHub NewToken UpgradeDB DATA_FILES_PATH app_log main subdomain_hook_idna "
        "JupyterHub.instance JupyterHub.initialized JupyterHub.launch_instance JupyterHub.clear_instance "
        "JupyterHub.add_url_prefix JupyterHub.config_file JupyterHub.init_handlers JupyterHub.init_tornado_settings "
        "JupyterHub.init_hub JupyterHub.init_db JupyterHub.init_internal_ssl JupyterHub.init_tornado_application "
        "JupyterHub.initialize JupyterHub.start JupyterHub.stop JupyterHub.cleanup JupyterHub.shutdown_cancel_tasks "
        "JupyterHub.db JupyterHub.users JupyterHub.hub JupyterHub.hub_prefix JupyterHub.base_url JupyterHub.bind_url "
        "JupyterHub.handlers JupyterHub.tornado_settings JupyterHub.template_paths JupyterHub.template_vars "
        "JupyterHub.data_files_path JupyterHub._template_paths_default JupyterHub._logo_file_default "
        "JupyterHub.authenticator JupyterHub.proxy JupyterHub.services JupyterHub._service_map "
        "JupyterHub.session_factory JupyterHub.oauth_provider JupyterHub.internal_ssl JupyterHub.internal_ssl_cert "
        "JupyterHub.internal_ssl_key JupyterHub.internal_ssl_ca JupyterHub.internal_trust_bundles "
        "JupyterHub.internal_certs_location JupyterHub.http_server JupyterHub.subdomain_host "
        "JupyterHub.extra_handlers JupyterHub.spawner_class JupyterHub.authenticator_class"
    ),
    "jupyterhub.auth": (
        "Authenticator LocalAuthenticator PAMAuthenticator DummyAuthenticator NullAuthenticator Popen pamela "
        "Authenticator.get_authenticated_user Authenticator.authenticate Authenticator.check_allowed "
        "Authenticator.check_blocked_users Authenticator.is_admin Authenticator.refresh_user Authenticator.login_url "
        "Authenticator.logout_url Authenticator.get_handlers Authenticator.get_custom_html "
        "Authenticator.normalize_username Authenticator.validate_username Authenticator.check_allow_config "
        "Authenticator.add_user Authenticator.delete_user Authenticator.pre_spawn_start Authenticator.post_spawn_stop "
        "Authenticator.load_managed_roles Authenticator.run_post_auth_hook Authenticator.db "
        "LocalAuthenticator.system_user_exists LocalAuthenticator.add_system_user "
        "LocalAuthenticator.check_allowed_groups LocalAuthenticator._getgrnam LocalAuthenticator._getpwnam "
        "LocalAuthenticator._getgrouplist PAMAuthenticator.executor"
    ),
    "jupyterhub.authenticators.shared": "SharedPasswordAuthenticator",
    "jupyterhub.crypto": (
        "encrypt decrypt CryptKeeper EncryptionUnavailable NoEncryptionKeys CryptographyUnavailable InvalidToken "
        "CryptKeeper.keys CryptKeeper.fernet CryptKeeper.check_available CryptKeeper._encrypt CryptKeeper._decrypt"
    ),
    "jupyterhub.dbutil": (
        "write_alembic_ini _temp_alembic_ini upgrade upgrade_if_needed backup_db_file shell main"
    ),
    "jupyterhub.handlers": "BaseHandler LoginHandler LogoutHandler default_handlers base login metrics pages",
    "jupyterhub.handlers.base": (
        "BaseHandler UserUrlHandler AddSlashHandler PrefixRedirectHandler Template404 UserRedirectHandler "
        "CSPReportHandler BaseHandler.find_user BaseHandler.user_from_username BaseHandler._user_from_orm "
        "BaseHandler.login_user BaseHandler.auth_to_user BaseHandler.authenticate BaseHandler.set_login_cookie "
        "BaseHandler.set_hub_cookie BaseHandler.set_session_cookie BaseHandler.get_session_cookie "
        "BaseHandler.set_service_cookie BaseHandler._set_user_cookie BaseHandler._set_cookie "
        "BaseHandler.clear_login_cookie BaseHandler.clear_cookie BaseHandler.get_next_url "
        "BaseHandler.append_query_parameters BaseHandler._validate_next_url BaseHandler.refresh_auth "
        "BaseHandler.spawn_single_user BaseHandler.stop_single_user BaseHandler.user_stopped "
        "BaseHandler.render_template BaseHandler.template_namespace BaseHandler.get_template "
        "BaseHandler.content_security_policy BaseHandler.csp_report_uri BaseHandler.get_auth_token "
        "BaseHandler.get_token BaseHandler.get_current_user_token BaseHandler.get_current_user_cookie "
        "BaseHandler._token_authenticated BaseHandler._accept_cookie_auth BaseHandler._accept_token_auth "
        "BaseHandler.expanded_scopes BaseHandler.parsed_scopes BaseHandler.has_scope BaseHandler.get_scope_filter "
        "BaseHandler._resolve_roles_and_scopes BaseHandler.xsrf_token BaseHandler._xsrf_token_id "
        "BaseHandler.get_current_user_named_server_limit BaseHandler.get_accessible_services "
        "BaseHandler.extra_error_html BaseHandler.get_current_user BaseHandler.current_user BaseHandler.log "
        "BaseHandler.db BaseHandler.hub BaseHandler.app BaseHandler.config BaseHandler.users BaseHandler.services "
        "BaseHandler.proxy BaseHandler.authenticator BaseHandler.oauth_provider BaseHandler.eventlog "
        "BaseHandler.base_url BaseHandler.default_url BaseHandler.domain BaseHandler.subdomain_host "
        "BaseHandler.public_url BaseHandler.version_hash BaseHandler.allow_named_servers BaseHandler.spawner_class"
    ),
    "jupyterhub.handlers.login": (
        "LoginHandler LogoutHandler LoginHandler._render LogoutHandler.default_handle_logout "
        "LogoutHandler.handle_logout LogoutHandler.render_logout_page LogoutHandler._shutdown_servers "
        "LogoutHandler._backend_logout_cleanup LogoutHandler.shutdown_on_logout"
    ),
    "jupyterhub.handlers.metrics": "MetricsHandler",
    "jupyterhub.handlers.pages": (
        "BaseHandler SpawnHandler HomeHandler ProxyErrorHandler SpawnPendingHandler TokenPageHandler AdminHandler "
        "RootHandler HealthCheckHandler AcceptShareHandler SpawnHandler._render_form SpawnHandler._get "
        "SpawnHandler._post SpawnHandler._wrap_spawn_single_user SpawnHandler._get_pending_url"
    ),
    "jupyterhub.handlers.static": "LogoHandler CacheControlStaticFilesHandler",
    "jupyterhub.httpclient": "JupyterHubHTTPClient",
    "jupyterhub.log": "CoroutineLogFormatter log_request _scrub_uri _scrub_headers",
    "jupyterhub.metrics": (
        "RUNNING_SERVERS TOTAL_USERS CHECK_ROUTES_DURATION_SECONDS PROXY_POLL_DURATION_SECONDS "
        "SERVER_SPAWN_DURATION_SECONDS SERVER_STOP_DURATION_SECONDS SERVER_POLL_DURATION_SECONDS "
        "LOGIN_DURATION_SECONDS ServerSpawnStatus ServerStopStatus ServerPollStatus ServerPollStatus.from_status "
        "LoginStatus ProxyDeleteStatus ServerSpawnFailureReason PeriodicMetricsCollector"
    ),
    "jupyterhub.objects": (
        "Server Hub Server.from_url Server.from_orm Server.wait_up Server.is_up Server.host Server.url "
        "Server.connect_addr Hub.api_url"
    ),
    "jupyterhub.orm": (
        "Base User Group Spawner Server Service APIToken Role OAuthClient OAuthCode Share ShareCode JSONDict JSONList "
        "new_session_factory check_db_revision Expiring Hashed Boolean Column DateTime ForeignKey Integer Unicode "
        "relationship Base.metadata User.find Group.find Service.find Role.find APIToken.find APIToken.new "
        "User.id User.name User.admin User.created User.last_activity User.state User.cookie_id "
        "User.encrypted_auth_state User.groups User.roles User._orm_spawners User.orm_spawners User.api_tokens "
        "Spawner.id Spawner.user_id Spawner.user Spawner.server_id Spawner.server Spawner.state Spawner.name "
        "Spawner.display_name Spawner.started Spawner.last_activity Spawner.user_options Spawner.oauth_client_id "
        "Server.id Server.proto Server.ip Server.port Server.base_url Server.cookie_name Group.id Group.name "
        "Group.users Group.properties Group.roles APIToken.user APIToken.service APIToken.note APIToken.scopes "
        "APIToken.created APIToken.expires_at APIToken.last_activity APIToken.session_id APIToken.client_id "
        "APIToken.prefix APIToken.hashed APIToken.api_id"
    ),
    "jupyterhub.proxy": (
        "Proxy ConfigurableHTTPProxy Proxy.add_service Proxy.delete_service Proxy.add_user Proxy.delete_user "
        "Proxy.add_hub_route Proxy.add_all_services Proxy.add_all_users Proxy.restore_routes Proxy.check_routes "
        "Proxy.validate_routespec Proxy.get_route ConfigurableHTTPProxy.api_request "
        "ConfigurableHTTPProxy._routespec_to_chp_path ConfigurableHTTPProxy._routespec_from_chp_path "
        "ConfigurableHTTPProxy._reformat_routespec ConfigurableHTTPProxy.check_running"
    ),
    "jupyterhub.roles": (
        "get_default_roles assign_default_roles grant_role strip_role create_role update_roles roles_to_scopes"
    ),
    "jupyterhub.scopes": (
        "needs_scope parse_scopes identify_scopes expand_scopes has_scope ScopeNotFound _check_scopes_exist "
        "scope_definitions define_custom_scopes get_scopes_for access_scopes describe_raw_scopes"
    ),
    "jupyterhub.services.auth": (
        "HubOAuthenticated HubOAuthCallbackHandler HubAuthenticated HubAuth HubOAuth UserNotAllowed check_scopes "
        "HubAuth.instance HubOAuth.instance HubAuth.user_for_token HubAuth.get_user HubAuth.get_token "
        "HubAuth.get_session_id HubAuth.check_scopes HubAuth.user_for_cookie HubAuth._api_request "
        "HubOAuth.cookie_name HubOAuth.state_cookie_name HubOAuth.set_cookie HubOAuth.clear_cookie "
        "HubOAuth.set_state_cookie HubOAuth.generate_state HubOAuth.get_next_url HubOAuth.token_for_code "
        "HubOAuth.get_state_cookie_name HubOAuth.clear_oauth_state HubOAuth.clear_oauth_state_cookies "
        "HubOAuth.check_xsrf_cookie HubOAuth.oauth_authorization_url HubOAuth.oauth_token_url "
        "HubAuthenticated.hub_auth HubAuthenticated.hub_scopes HubAuthenticated.hub_users HubAuthenticated.hub_groups "
        "HubAuthenticated.hub_services HubAuthenticated.allow_admin HubAuthenticated.allow_all "
        "HubAuthenticated.get_current_user HubAuthenticated.get_login_url HubAuthenticated.check_hub_user "
        "HubAuthenticated.check_xsrf_cookie"
    ),
    "jupyterhub.services.service": (
        "Service _ServiceSpawner Service.managed Service.kind Service.server Service.prefix Service.href "
        "Service.proxy_spec Service.oauth_available Service.oauth_client Service.from_config Service.start Service.stop"
    ),
    "jupyterhub.singleuser": "main",
    "jupyterhub.singleuser.app": "SingleUserNotebookApp",
    "jupyterhub.singleuser.extension": "JupyterHubSingleUser JupyterHubIdentityProvider JupyterHubAuthorizer",
    "jupyterhub.singleuser.mixins": "make_singleuser_app HubAuthenticatedHandler",
    "jupyterhub.slugs": "is_valid_safe_slug safe_slug is_valid_display_name normalise_unicode",
    "jupyterhub.spawner": (
        "Spawner LocalProcessSpawner SimpleLocalProcessSpawner SpawnException set_user_setuid _quote_safe "
        "Spawner.start Spawner.stop Spawner.poll Spawner.get_state Spawner.load_state Spawner.clear_state "
        "Spawner.get_env Spawner.get_args Spawner.format_string Spawner.template_namespace Spawner.progress "
        "Spawner.options_from_form Spawner.run_pre_spawn_hook Spawner.run_post_stop_hook Spawner.create_certs "
        "Spawner.move_certs Spawner.get_url Spawner.delete_forever Spawner.start_polling Spawner.stop_polling "
        "Spawner.add_poll_callback Spawner.get_options_form Spawner.run_auth_state_hook"
    ),
    "jupyterhub.traitlets": (
        "Callable Command ByteSpecification EntryPointType URLPrefix ByteSpecification.UNIT_SUFFIXES Unicode Integer "
        "List"
    ),
    "jupyterhub.user": (
        "User UserDict User.name User.url User.base_url User.escaped_name User.server_url User.progress_url "
        "User.get_auth_state User.save_auth_state User.running User.active User.spawner User.all_spawners User.spawn "
        "User.stop User.orm_user"
    ),
    "jupyterhub.utils": (
        "url_path_join maybe_future exponential_backoff random_port make_ssl_context admin_only token_authenticated "
        "authenticated_403 auth_decorator iterate_until isoformat url_escape_path new_token hash_token compare_token "
        "wait_for_http_server wait_for_server can_connect get_browser_protocol utcnow recursive_update fmt_ip_url "
        "format_exception subdomain_hook_legacy subdomain_hook_idna AnyTimeoutError safe_log catch_db_error "
        "metrics_authentication print_stacks print_ps_info get_accepted_mimetype asyncio_all_tasks asyncio_current_task"
    ),
}

#: Attributes of an instance that its class does not show: made in the constructor.
PLACES = [(module, name) for module, names in NAMES.items() for name in names.split()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("module", "name"), PLACES, ids=[f"{module}.{name}" for module, name in PLACES])
def test_a_name_resolves(module: str, name: str):
    owner = importlib.import_module(module)
    for part in name.split("."):
        if inspect.isclass(owner) and part in getattr(owner, "_traits", {}):
            return
        owner = getattr(owner, part)


def test_star_imports_of_the_handlers_are_one_list_with_theirs():
    """What a plugin appends to a list is in the application's: the lists are not copied."""
    from jupyterhub import apihandlers
    from jupyterhub.core.scopes import catalogue
    from jupyterhub.scopes import scope_definitions

    assert isinstance(apihandlers.default_handlers, list)
    assert scope_definitions is catalogue.scope_definitions


def test_registered_names_lead_to_the_classes():
    from importlib.metadata import entry_points

    wanted = {
        "jupyterhub.authenticators": {
            "default": "jupyterhub.auth.PAMAuthenticator",
            "pam": "jupyterhub.auth.PAMAuthenticator",
            "dummy": "jupyterhub.auth.DummyAuthenticator",
            "null": "jupyterhub.auth.NullAuthenticator",
            "shared-password": "jupyterhub.authenticators.shared.SharedPasswordAuthenticator",
        },
        "jupyterhub.spawners": {
            "default": "jupyterhub.spawner.LocalProcessSpawner",
            "localprocess": "jupyterhub.spawner.LocalProcessSpawner",
            "simple": "jupyterhub.spawner.SimpleLocalProcessSpawner",
        },
        "jupyterhub.proxies": {
            "default": "jupyterhub.proxy.builtin.BuiltinProxy",
            "configurable-http-proxy": "jupyterhub.proxy.chp.ConfigurableHTTPProxy",
        },
    }
    for group, names in wanted.items():
        found = {point.name: point.load() for point in entry_points(group=group)}
        for name, path in names.items():
            assert issubclass(found[name], object)
            assert path.endswith("." + found[name].__name__)


def test_plugins_are_told_the_version_of_the_interface() -> None:
    """dockerspawner makes the tag of its default image from it: `quay.io/jupyterhub/singleuser:6.1`."""
    import jupyterhub
    from jupyterhub._version import INTERFACE_VERSION

    numbers, rest = jupyterhub.version_info[:3], jupyterhub.version_info[3:]
    assert ".".join(str(number) for number in numbers) == INTERFACE_VERSION and rest == ("", "")

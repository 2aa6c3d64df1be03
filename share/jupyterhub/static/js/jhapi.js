// The API client that scripts of deployments ask an AMD loader for under the name "jhapi".
// Each method takes options with `success(data, text, request)` and `error(request, text, problem)`.

import { showError } from "hub/api";

const segment = encodeURIComponent;

export default class JHAPI {
  constructor(base_url) {
    this.base_url = base_url;
  }

  async api_request(path, options = {}) {
    const method = options.type || options.method || "GET";
    const address = new URL(`${this.base_url.replace(/\/$/, "")}/api/${path.replace(/^\//, "")}`, location.href);
    address.searchParams.set("_xsrf", window.jhdata.xsrf_token);
    const headers = { Accept: "application/json" };
    if (options.data !== undefined && options.data !== null) {
      headers["Content-Type"] = options.contentType || "application/json";
    }
    const request = { status: 0, statusText: "", responseText: "", responseJSON: undefined };
    try {
      const answer = await fetch(address, { method, headers, body: options.data, credentials: "same-origin" });
      request.status = answer.status;
      request.statusText = answer.statusText;
      request.responseText = await answer.text();
      try {
        request.responseJSON = JSON.parse(request.responseText);
      } catch (notJson) {
        // Empty and plain answers have no object.
      }
      if (!answer.ok) {
        throw new Error(request.responseJSON?.message || answer.statusText);
      }
    } catch (problem) {
      if (options.error) {
        options.error(request, "error", problem);
      } else {
        showError(problem);
      }
      return;
    }
    options.success?.(request.responseJSON, "success", request);
  }

  #send(method, path, options, data) {
    return this.api_request(path, { ...options, type: method, data: data === undefined ? options?.data : JSON.stringify(data) });
  }

  start_server(user, options) { return this.#send("POST", `users/${segment(user)}/server`, options); }
  stop_server(user, options) { return this.#send("DELETE", `users/${segment(user)}/server`, options); }
  start_named_server(user, server, options) {
    return this.#send("POST", `users/${segment(user)}/servers/${segment(server)}`, options);
  }
  create_named_server(user, server, options) {
    return this.#send("PUT", `users/${segment(user)}/servers/${segment(server)}`, options);
  }
  stop_named_server(user, server, options) {
    return this.#send("DELETE", `users/${segment(user)}/servers/${segment(server)}`, options);
  }
  delete_named_server(user, server, options) {
    return this.#send("DELETE", `users/${segment(user)}/servers/${segment(server)}`, options, { remove: true });
  }
  list_users(options) { return this.#send("GET", "users", options); }
  get_user(user, options) { return this.#send("GET", `users/${segment(user)}`, options); }
  add_users(usernames, userinfo, options) { return this.#send("POST", "users", options, { ...userinfo, usernames }); }
  edit_user(user, userinfo, options) { return this.#send("PATCH", `users/${segment(user)}`, options, userinfo); }
  delete_user(user, options) { return this.#send("DELETE", `users/${segment(user)}`, options); }
  admin_access(user, options) { return this.#send("POST", `users/${segment(user)}/admin-access`, options); }
  request_token(user, props, options) { return this.#send("POST", `users/${segment(user)}/tokens`, options, props || {}); }
  revoke_token(user, token_id, options) {
    return this.#send("DELETE", `users/${segment(user)}/tokens/${segment(token_id)}`, options);
  }
  shutdown_hub(data, options) { return this.#send("POST", "shutdown", options, data || {}); }
}

// Small helpers that scripts of deployments ask an AMD loader for under the name "utils".

import { showError } from "hub/api";

/** Join with single slashes; a leading and a trailing one stay. */
export function url_path_join(...pieces) {
  return pieces.filter((piece) => piece !== "").join("/").replace(/\/\/+/g, "/");
}

/** Percent-encode each segment of a path. */
export function encode_uri_components(path) {
  return path.split("/").map(encodeURIComponent).join("/");
}

export function url_join_encode(...pieces) {
  return encode_uri_components(url_path_join(...pieces));
}

/** Return a value from the page's `data-` attributes of the body. */
export function get_body_data(key) {
  const value = document.body.getAttribute(`data-${key}`);
  return value === null ? undefined : decodeURIComponent(value);
}

export function escape_html(text) {
  const element = document.createElement("div");
  element.textContent = text;
  return element.innerHTML;
}

/** Return what an answer says went wrong. */
export function ajax_error_msg(request) {
  return request.responseJSON?.message || request.statusText || "The hub does not answer.";
}

export function log_ajax_error(request, status, problem) {
  console.log("Request failed:", status, problem);
  return ajax_error_msg(request);
}

export function ajax_error_dialog(request, status, problem) {
  showError(`${log_ajax_error(request, status, problem)} (${request.status || status})`);
}

export default {
  url_path_join,
  url_join_encode,
  encode_uri_components,
  get_body_data,
  escape_html,
  ajax_error_msg,
  log_ajax_error,
  ajax_error_dialog,
};

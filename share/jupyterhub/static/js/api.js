// Calls of the REST API with this browser's log-in, and the messages that go with them.

const data = window.jhdata;

/** What the Hub said when it refused: `status` is the HTTP status, `message` its sentence. */
export class HubError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Call `api/<path>`. Returns the parsed answer, or null without one; throws a HubError. */
export async function hubRequest(method, path, body) {
  const address = new URL(`${data.base_url}api/${path}`, location.href);
  const headers = { Accept: "application/json", "X-XSRFToken": data.xsrf_token };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(address, {
      method,
      headers,
      credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (problem) {
    throw new HubError(0, "The hub does not answer. Check the network, then try again.");
  }
  const text = await answer.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch (problem) {
    value = null;
  }
  if (!answer.ok) {
    const message = (value && value.message) || answer.statusText || "The hub refused.";
    throw new HubError(answer.status, explain(answer.status, message));
  }
  return { status: answer.status, value };
}

function explain(status, message) {
  if (status === 403 && /xsrf/i.test(message)) {
    return "This page is out of date, perhaps because you logged in again elsewhere. Reload it and try again.";
  }
  return message;
}

const segment = (text) => encodeURIComponent(text);

/** Path of a server in the API; the default one has the empty name. */
export function serverPath(user, server) {
  return server ? `users/${segment(user)}/servers/${segment(server)}` : `users/${segment(user)}/server`;
}

/** Show what went wrong in the page's error dialog. */
export function showError(problem) {
  const dialog = document.getElementById("error-dialog");
  const text = problem instanceof Error ? problem.message : String(problem);
  dialog.querySelector(".ajax-error").textContent = text;
  if (!dialog.open) {
    dialog.showModal();
  }
}

/** Ask in a dialog of the page. Returns whether the answer was yes. */
export function confirmIn(dialog) {
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "confirm"), { once: true });
    dialog.returnValue = "";
    dialog.showModal();
  });
}

/** Say something in passing; it is read out and goes away by itself. */
export function say(text) {
  const toast = document.createElement("div");
  toast.className = "toast";
  toast.textContent = text;
  document.querySelector(".toasts").append(toast);
  setTimeout(() => toast.remove(), 6000);
}

/** Run the action of a button, which is off meanwhile; show what goes wrong. Returns whether it went well. */
export async function withButton(button, action) {
  button.disabled = true;
  button.classList.add("busy");
  try {
    await action();
    return true;
  } catch (problem) {
    showError(problem);
    return false;
  } finally {
    button.disabled = false;
    button.classList.remove("busy");
  }
}

/** Fetch this page again and put one of its parts in place of the present one. */
export async function refreshPart(id) {
  const answer = await fetch(location.href, { credentials: "same-origin", headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) {
    return false;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(id);
  const present = document.getElementById(id);
  if (!fresh || !present) {
    return false;
  }
  const focused = document.activeElement && present.contains(document.activeElement) ? document.activeElement.id : "";
  present.replaceWith(fresh);
  if (focused) {
    document.getElementById(focused)?.focus();
  }
  document.dispatchEvent(new CustomEvent("hub:refreshed"));
  return true;
}

// People and their servers, a page at a time; start and stop in place.

import { hubRequest, serverPath, withButton } from "hub/api";
import { refreshTimes } from "hub/time";

const limit = Number(document.getElementById("admin-main").dataset.limit) || 50;
const body = document.querySelector("#admin-table tbody");
const search = document.getElementById("admin-search");
const active = document.getElementById("admin-active");
const previous = document.getElementById("admin-previous");
const next = document.getElementById("admin-next");
const base = window.jhdata.base_url;

function stateFromAddress() {
  const given = new URLSearchParams(location.hash.replace(/^#\/?\??/, ""));
  return {
    name_filter: given.get("name_filter") || "",
    state: given.get("state") || "",
    offset: Number(given.get("offset")) || 0,
  };
}

let state = stateFromAddress();

function time(value) {
  if (!value) {
    return document.createTextNode("–");
  }
  const element = document.createElement("time");
  element.dateTime = value;
  element.textContent = value;
  return element;
}

function cell(label, ...content) {
  const element = document.createElement("td");
  element.dataset.label = label;
  element.append(...content);
  return element;
}

/** What to say of a server in one word; the words are those of the other pages. */
function stateOf(server) {
  if (server?.ready) {
    return "running";
  }
  if (server?.pending) {
    return server.pending === "stop" ? "stopping" : "starting";
  }
  return server?.failure ? "failed" : "stopped";
}

function pageOf(kind, user, server) {
  const names = [user.name, server?.name || ""].filter(Boolean);
  return `${base}${kind}/${names.map(encodeURIComponent).join("/")}`;
}

/** The state as a badge, and for a failure the way to its explanation. */
function stateCell(user, server) {
  const word = stateOf(server);
  const element = document.createElement("span");
  element.className = `badge state-${word}`;
  element.textContent = word;
  if (word !== "failed") {
    return cell("State", element);
  }
  const why = document.createElement("a");
  why.className = "small";
  why.href = pageOf("spawn-pending", user, server);
  why.title = server.failure.message || "";
  why.textContent = "What happened";
  why.setAttribute("aria-label", `What happened to the server of ${user.name}${server.name ? ` ${server.name}` : ""}`);
  return cell("State", element, " ", why);
}

function actionButton(user, server) {
  const name = server?.name || "";
  const stop = Boolean(server && (server.ready || server.pending === "spawn"));
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn btn-sm btn-default";
  button.textContent = stop ? "Stop" : "Start";
  button.setAttribute("aria-label", `${button.textContent} ${user.name}${name ? ` ${name}` : ""}`);
  button.addEventListener("click", async () => {
    if (await withButton(button, () => hubRequest(stop ? "DELETE" : "POST", serverPath(user.name, name)))) {
      await load();
    }
  });
  return button;
}

function row(user, server, first) {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = first ? user.name : "";
  if (first && user.admin) {
    const mark = document.createElement("span");
    mark.className = "badge";
    mark.textContent = "admin";
    head.append(" ", mark);
  }
  if (!first) {
    const hidden = document.createElement("span");
    hidden.className = "visually-hidden repeated";
    hidden.textContent = user.name;
    head.append(hidden);
  }
  const open = document.createElement("a");
  open.textContent = server?.display_name || server?.name || "default";
  open.href = server?.ready ? server.url : pageOf("spawn", user, server);
  const actions = document.createElement("td");
  actions.className = "row-actions";
  actions.append(actionButton(user, server));
  line.append(
    head,
    cell("Server", open),
    stateCell(user, server),
    cell("Started", time(server?.started)),
    cell("Last activity", time(server?.last_activity || user.last_activity)),
    actions,
  );
  return line;
}

async function load() {
  const query = new URLSearchParams({ include_stopped_servers: "1", limit: String(limit), offset: String(state.offset) });
  if (state.name_filter) {
    query.set("name_filter", state.name_filter);
  }
  if (state.state) {
    query.set("state", state.state);
  }
  const answer = await fetch(`${base}api/users?${query}`, {
    credentials: "same-origin",
    headers: { Accept: "application/jupyterhub-pagination+json", "X-XSRFToken": window.jhdata.xsrf_token },
  });
  const count = document.getElementById("admin-count");
  if (!answer.ok) {
    count.textContent = "The list cannot be read at the moment.";
    return;
  }
  const { items, _pagination: paging } = await answer.json();
  const lines = [];
  for (const user of items) {
    const servers = Object.values(user.servers || {});
    const shown = servers.length ? servers : [null];
    shown.forEach((server, index) => lines.push(row(user, server, index === 0)));
  }
  body.replaceChildren(...lines);
  refreshTimes(body);
  const last = Math.min(paging.offset + items.length, paging.total);
  count.textContent = paging.total ? `${paging.offset + 1} to ${last} of ${paging.total}` : "Nobody.";
  previous.disabled = paging.offset === 0;
  next.disabled = !paging.next;
}

function change(changes) {
  state = { ...state, ...changes };
  const query = new URLSearchParams(Object.entries(state).filter(([, value]) => value));
  history.replaceState(null, "", `#/?${query}`);
  load();
}

let waiting = 0;
search.value = state.name_filter;
active.checked = state.state === "active";
search.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => change({ name_filter: search.value.trim(), offset: 0 }), 300);
});
active.addEventListener("change", () => change({ state: active.checked ? "active" : "", offset: 0 }));
previous.addEventListener("click", () => change({ offset: Math.max(0, state.offset - limit) }));
next.addEventListener("click", () => change({ offset: state.offset + limit }));
document.getElementById("admin-filter").addEventListener("submit", (event) => event.preventDefault());
load();

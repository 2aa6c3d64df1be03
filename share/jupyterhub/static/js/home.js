// Home: stop and delete servers in place, add new ones, keep the picture current.

import { confirmIn, hubRequest, refreshPart, say, serverPath, withButton } from "hub/api";
import { displayName, slug } from "./slug.js";

const user = window.jhdata.user;
const WAITING = '[data-state="starting"], [data-state="stopping"], [data-state="checking"], [data-state="renaming"]';

async function refresh() {
  try {
    return await refreshPart("servers");
  } catch (problem) {
    // The hub is away for a moment; the next look may find it again.
    return false;
  }
}

async function stopServer(button) {
  const name = button.dataset.serverName;
  const done = await withButton(button, () => hubRequest("DELETE", serverPath(user, name)));
  if (done) {
    if (!(await refresh())) {
      location.reload();
      return;
    }
    say(document.querySelector(WAITING) ? "The server is stopping." : "The server has stopped.");
  }
}

async function deleteServer(button) {
  const dialog = document.getElementById("delete-server-dialog");
  dialog.querySelector(".delete-server-name").textContent = button.dataset.displayName;
  if (!(await confirmIn(dialog))) {
    return;
  }
  const path = serverPath(user, button.dataset.serverName);
  if (await withButton(button, () => hubRequest("DELETE", path, { remove: true }))) {
    await refresh();
    say("The server is deleted.");
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.classList.contains("stop-server")) {
    stopServer(button);
  } else if (button?.classList.contains("delete-server")) {
    deleteServer(button);
  }
});

const form = document.getElementById("new-server-form");
const input = form?.querySelector(".new-server-name");
const help = document.getElementById("new-server-help");

input?.addEventListener("input", () => {
  const name = slug(displayName(input.value));
  help.textContent = name
    ? `Its address will be ${window.jhdata.prefix}user/${user}/${name}/`
    : "Any name will do; its address is made from it.";
});

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const display = displayName(input.value);
  const name = slug(display);
  if (!name) {
    help.textContent = "Type a name with at least one letter or digit.";
    input.focus();
    return;
  }
  const taken = [...document.querySelectorAll(".home-server-row")].some((row) => row.dataset.serverName === name);
  if (taken) {
    help.textContent = `You have a server at this address already: ${name}. Choose another name.`;
    input.focus();
    return;
  }
  await withButton(form.querySelector(".new-server-btn"), async () => {
    await hubRequest("PUT", serverPath(user, name), { display_name: display });
    location.assign(`${window.jhdata.base_url}spawn/${encodeURIComponent(user)}/${encodeURIComponent(name)}`);
  });
});

// Servers in motion are looked at every two seconds, the rest when somebody comes back to the page.
setInterval(() => {
  if (!document.hidden && document.querySelector(WAITING)) {
    refresh();
  }
}, 2000);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    refresh();
  }
});

window._jupyterhub_page_loaded = true;

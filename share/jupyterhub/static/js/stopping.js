// The stopping page: notice when the server has stopped.

import { clock } from "hub/time";

const began = Date.now();

setInterval(() => {
  document.getElementById("elapsed").textContent = `For ${clock((Date.now() - began) / 1000)}`;
}, 1000);

async function look() {
  try {
    const answer = await fetch(location.href, { credentials: "same-origin", headers: { Accept: "text/html" } });
    if (answer.redirected || !(await answer.text()).includes('data-page="stop-pending"')) {
      location.reload();
      return;
    }
  } catch (problem) {
    // The hub is away for a moment.
  }
  setTimeout(look, 2000);
}

setTimeout(look, 2000);
window._jupyterhub_page_loaded = true;

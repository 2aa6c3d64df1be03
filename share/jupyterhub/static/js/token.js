// The token page: request, copy, revoke.

import { confirmIn, hubRequest, refreshPart, say, withButton } from "hub/api";

const user = window.jhdata.user;
const form = document.getElementById("request-token-form");
const scopes = document.getElementById("token-scopes");
const choices = [...document.querySelectorAll(".scope-choice")];

const split = (text) => text.split(/[\s,]+/).filter(Boolean);

for (const choice of choices) {
  choice.addEventListener("change", () => {
    const names = split(scopes.value).filter((name) => name !== choice.value);
    if (choice.checked) {
      names.push(choice.value);
    }
    scopes.value = names.join(" ");
  });
}
scopes?.addEventListener("input", () => {
  const names = new Set(split(scopes.value));
  for (const choice of choices) {
    choice.checked = names.has(choice.value);
  }
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const expires = document.getElementById("token-expiration-seconds").value;
  const request = {
    note: document.getElementById("token-note").value.trim() || "Requested on the token page",
    expires_in: expires ? Number(expires) : null,
  };
  const names = split(scopes.value);
  if (names.length) {
    request.scopes = names;
  }
  await withButton(form.querySelector("[type=submit]"), async () => {
    const { value } = await hubRequest("POST", `users/${encodeURIComponent(user)}/tokens`, request);
    document.getElementById("token-result").textContent = value.token;
    const area = document.getElementById("token-area");
    area.hidden = false;
    area.focus();
    form.reset();
    await refreshPart("token-lists");
  });
});

document.getElementById("copy-token").addEventListener("click", async () => {
  const output = document.getElementById("token-result");
  try {
    await navigator.clipboard.writeText(output.textContent);
    say("Copied.");
  } catch (refused) {
    // Clipboards are for encrypted connections only; marked, it can be copied by hand.
    getSelection().selectAllChildren(output);
    say("Marked. Copy it with your keyboard.");
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest(".revoke-token-btn");
  if (!button) {
    return;
  }
  const row = button.closest(".token-row");
  const dialog = document.getElementById("revoke-token-dialog");
  dialog.querySelector(".revoke-name").textContent = row.dataset.note || row.dataset.tokenId;
  if (!(await confirmIn(dialog))) {
    return;
  }
  const path = `users/${encodeURIComponent(user)}/tokens/${encodeURIComponent(row.dataset.tokenId)}`;
  if (await withButton(button, () => hubRequest("DELETE", path))) {
    row.remove();
    say("Revoked.");
  }
});

window._jupyterhub_page_loaded = true;

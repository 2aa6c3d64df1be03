// The log-in form: show the password, warn of connections that can be read, one submission only.

if (!window.isSecureContext) {
  document.getElementById("insecure-login-warning")?.removeAttribute("hidden");
}

const password = document.getElementById("password_input");
const toggle = document.getElementById("toggle_password_visibility");
toggle?.addEventListener("click", () => {
  const show = toggle.getAttribute("aria-pressed") !== "true";
  toggle.setAttribute("aria-pressed", String(show));
  toggle.textContent = show ? "Hide" : "Show";
  password.type = show ? "text" : "password";
  password.focus();
});

const submit = document.getElementById("login_submit");
submit?.form?.addEventListener("submit", () => {
  setTimeout(() => {
    submit.disabled = true;
    submit.classList.add("busy");
  });
});
addEventListener("pageshow", () => {
  if (submit) {
    submit.disabled = false;
    submit.classList.remove("busy");
  }
});

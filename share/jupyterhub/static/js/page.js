// What every page does: theme, current place in the navigation, relative times, the services menu.

import { refreshTimes } from "hub/time";

const KEY = "jupyterhub-bs-theme";
const CHOICES = ["system", "light", "dark"];
const NAMES = { system: "as the system", light: "light", dark: "dark" };
const dark = matchMedia("(prefers-color-scheme: dark)");

function stored() {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch (refused) {
    return "system";
  }
}

function store(choice) {
  try {
    if (choice === "system") {
      localStorage.removeItem(KEY);
    } else {
      localStorage.setItem(KEY, choice);
    }
  } catch (refused) {
    // The choice holds for this page, at least.
  }
}

function apply(choice) {
  const theme = choice === "system" ? (dark.matches ? "dark" : "light") : choice;
  document.documentElement.setAttribute("data-bs-theme", theme);
  const button = document.getElementById("dark-theme-toggle");
  if (button) {
    button.dataset.choice = choice;
    button.setAttribute("aria-label", `Colour theme: ${NAMES[choice]}`);
    button.title = `Colour theme: ${NAMES[choice]}`;
  }
}

let choice = stored();
apply(choice);
dark.addEventListener("change", () => apply(choice));
document.getElementById("dark-theme-toggle")?.addEventListener("click", () => {
  choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
  store(choice);
  apply(choice);
});

for (const link of document.querySelectorAll("#thenavbar .nav-link[href]")) {
  if (new URL(link.href).pathname === location.pathname) {
    link.setAttribute("aria-current", "page");
  }
}

for (const menu of document.querySelectorAll("details.menu")) {
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) {
      menu.open = false;
    }
  });
}

refreshTimes();
setInterval(refreshTimes, 30000);
document.addEventListener("hub:refreshed", () => refreshTimes());

// The pending page: phases with their times, a live log, and on to the server as soon as it is ready.

import { hubRequest, serverPath, withButton } from "hub/api";
import { clock } from "hub/time";

const NAMES = {
  preparing: "Preparing",
  starting: "Starting the server",
  connecting: "Waiting for the server to answer",
  routing: "Connecting it to the proxy",
};
const LONGEST_LOG = 2000;

const page = document.getElementById("pending");
const element = (id) => document.getElementById(id);
const { progressUrl, readyUrl, user, serverName } = page.dataset;
const began = Date.now();
let over = false;
let source = null;

function setProgress(percent) {
  const bounded = Math.min(100, Math.max(0, percent));
  element("progress-bar").style.width = `${bounded}%`;
  element("progress-bar-frame").setAttribute("aria-valuenow", String(Math.round(bounded)));
  element("sr-progress").textContent = `${Math.round(bounded)} percent`;
}

/** Add a line to the log and keep its end in view, unless somebody is reading further up. */
function log(content, className) {
  const box = element("progress-log");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const line = document.createElement("div");
  if (className) {
    line.className = className;
  }
  if (typeof content === "string") {
    line.textContent = content;
  } else {
    line.innerHTML = content.html;
  }
  box.append(line);
  while (box.childElementCount > LONGEST_LOG) {
    box.firstElementChild.remove();
  }
  if (atEnd) {
    box.scrollTop = box.scrollHeight;
  }
}

function showPhases(phases, failed) {
  const list = element("phases");
  list.replaceChildren(
    ...phases.map((phase, index) => {
      const item = document.createElement("li");
      const last = index === phases.length - 1;
      item.dataset.phase = phase.phase;
      item.dataset.started = phase.started;
      item.className = failed && last ? "failed" : phase.ended ? "done" : "current";
      const name = document.createElement("span");
      name.className = "phase-name";
      name.textContent = NAMES[phase.phase] || phase.phase;
      const time = document.createElement("span");
      time.className = "phase-time";
      if (phase.ended) {
        time.textContent = `${((new Date(phase.ended) - new Date(phase.started)) / 1000).toFixed(1)} s`;
      }
      item.append(name, " ", time);
      return item;
    }),
  );
}

/** The end of the output comes whole with the failure, in place of what has been seen of it. */
function lastWords(lines) {
  const box = element("progress-log");
  box.querySelectorAll(":scope > :not(.progress-log-event)").forEach((line) => line.remove());
  const told = new Set(Array.from(box.children, (line) => line.textContent));
  lines.filter((line) => !told.has(line)).forEach((line) => log(line));
}

function finish() {
  over = true;
  source?.close();
  clearInterval(ticking);
}

function ready(event) {
  finish();
  setProgress(100);
  element("progress-message").textContent = event.message || "Ready";
  // The server said where to go; the event knows only the server's own address.
  location.replace(readyUrl || event.url);
}

function failed(event) {
  finish();
  const failure = event.failure || {};
  element("progress-bar-frame").hidden = true;
  element("elapsed").parentElement.hidden = true;
  const cancelled = failure.cause === "cancelled";
  element("pending-title").textContent =
    failure.title || (cancelled ? "The start was cancelled" : "The server did not start");
  document.title = `${element("pending-title").textContent} · JupyterHub`;
  const message = element("failure-message");
  if (event.html_message) {
    message.innerHTML = event.html_message;
  } else {
    message.textContent = failure.message || event.message || "No reason was given.";
  }
  element("pending-hint")?.setAttribute("hidden", "");
  element("failure-next").textContent = failure.next_step || "";
  element("failure-advice").hidden = !failure.next_step;
  element("failure").hidden = cancelled;
  document.querySelector("#phases .current")?.classList.replace("current", "failed");
  element("progress-details").open = true;
  element("stop-server-btn").hidden = true;
  element("start-again").hidden = false;
  element("start-again").focus();
}

function receive(event) {
  if (event.ready) {
    ready(event);
    return;
  }
  if (event.phases) {
    showPhases(event.phases, Boolean(event.failed));
  }
  if (typeof event.progress === "number") {
    setProgress(event.progress);
  }
  if (event.message) {
    element("progress-message").textContent = event.message;
  }
  if (event.html_message) {
    log({ html: event.html_message }, "progress-log-event");
  } else if (event.message) {
    log(event.message, "progress-log-event");
  }
  if (event.failed) {
    lastWords(event.log || []);
    failed(event);
  } else if (Array.isArray(event.log)) {
    event.log.forEach((line) => log(line));
  }
}

/** The stream cannot be had; look from time to time instead. */
function fallBack() {
  element("progress-message").textContent = "No live news at the moment; this page looks again every few seconds.";
  element("refresh").hidden = false;
  setTimeout(() => location.reload(), 5000);
}

function listen() {
  source = new EventSource(progressUrl);
  source.addEventListener("open", () => {
    // A stream that was cut begins again with all there is.
    element("progress-log").replaceChildren();
  });
  source.addEventListener("message", (message) => {
    try {
      receive(JSON.parse(message.data));
    } catch (problem) {
      console.warn("An event of the start cannot be read", problem);
    }
  });
  source.addEventListener("error", () => {
    if (!over && source.readyState === EventSource.CLOSED) {
      fallBack();
    }
  });
}

const first = document.querySelector("#phases li[data-started]")?.dataset.started;
const since = first ? new Date(first).getTime() : began;
const ticking = setInterval(() => {
  element("elapsed").textContent = clock((Date.now() - since) / 1000);
  const current = document.querySelector("#phases .current");
  if (current?.dataset.started) {
    const seconds = (Date.now() - new Date(current.dataset.started).getTime()) / 1000;
    current.querySelector(".phase-time").textContent = `${Math.max(0, seconds).toFixed(0)} s`;
  }
}, 1000);

element("stop-server-btn").addEventListener("click", async (event) => {
  const stopped = await withButton(event.currentTarget, () => hubRequest("DELETE", serverPath(user, serverName)));
  if (stopped) {
    finish();
    location.reload();
  }
});

addEventListener("pagehide", () => source?.close());
listen();
window._jupyterhub_page_loaded = true;

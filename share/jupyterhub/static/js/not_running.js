// The page of a stopped server: keep the address's fragment, and start by itself where that is wanted. While a failed
// start is still being cleared away: notice when that is over.

const start = document.getElementById("start");

if (start) {
  const address = new URL(start.href);
  const next = address.searchParams.get("next");
  if (next && location.hash && !next.includes("#")) {
    address.searchParams.set("next", next + location.hash);
    start.href = address.href;
  }
  const seconds = Number(start.dataset.implicitSeconds);
  if (seconds > 0) {
    setTimeout(() => location.assign(start.href), seconds * 1000);
  }
}

async function look() {
  try {
    const answer = await fetch(location.href, { credentials: "same-origin", headers: { Accept: "text/html" } });
    if (!(await answer.text()).includes('id="clearing-away"')) {
      location.reload();
      return;
    }
  } catch (problem) {
    // The hub is away for a moment.
  }
  setTimeout(look, 2000);
}

if (document.getElementById("clearing-away")) {
  setTimeout(look, 1000);
}

window._jupyterhub_page_loaded = true;

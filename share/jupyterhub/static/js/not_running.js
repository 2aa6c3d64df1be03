// The page of a stopped server: keep the address's fragment, and start by itself where that is wanted.

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

window._jupyterhub_page_loaded = true;

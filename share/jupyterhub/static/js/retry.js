// Try again when the Hub said it would have room.

const line = document.getElementById("retry");
const shown = document.getElementById("retry-seconds");
let left = Number(line.dataset.seconds) || 30;
// Spoken once at the start and once near the end, not every second.
line.setAttribute("aria-live", "off");

const ticking = setInterval(() => {
  left -= 1;
  shown.textContent = String(Math.max(0, left));
  if (left === 5) {
    line.setAttribute("aria-live", "polite");
  }
  if (left <= 0) {
    clearInterval(ticking);
    location.reload();
  }
}, 1000);

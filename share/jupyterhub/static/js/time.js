// Times as people say them: "3 minutes ago" in the browser's language, the exact time in the tooltip.

const STEPS = [
  ["second", 60],
  ["minute", 60],
  ["hour", 24],
  ["day", 7],
  ["week", 4.35],
  ["month", 12],
  ["year", Infinity],
];

const relative = new Intl.RelativeTimeFormat(document.documentElement.lang || undefined, { numeric: "auto" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Return a time relative to now. Anything within ten seconds is "just now". */
export function ago(date) {
  let amount = (date.getTime() - Date.now()) / 1000;
  if (Math.abs(amount) < 10) {
    return "just now";
  }
  for (const [unit, size] of STEPS) {
    if (Math.abs(amount) < size) {
      return relative.format(Math.round(amount), unit);
    }
    amount /= size;
  }
  return exact.format(date);
}

/** Write all `time` elements below `root` relative to now. */
export function refreshTimes(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const date = new Date(element.dateTime);
    if (!Number.isNaN(date.getTime())) {
      element.textContent = ago(date);
      element.title = exact.format(date);
    }
  }
}

/** Return seconds as "1:05" or "1:02:03". */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

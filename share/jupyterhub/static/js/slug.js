// Names of servers for addresses, made from names for people.

const LONGEST = 30;

/** Return a display name as the Hub takes it: composed, without control characters, single spaces. */
export function displayName(text) {
  return text
    .normalize("NFC")
    .replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, " ")
    .replace(/ +/g, " ")
    .trim();
}

/** Return what stands for a display name in addresses; '' if nothing of it can. */
export function slug(text) {
  if (text.length <= LONGEST && /^[a-z][a-z0-9]*$/.test(text)) {
    return text;
  }
  let name = text
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "");
  if (!name) {
    return "";
  }
  if (!/^[a-z]/.test(name)) {
    name = `x-${name}`;
  }
  return name.slice(0, LONGEST).replace(/-+$/, "");
}

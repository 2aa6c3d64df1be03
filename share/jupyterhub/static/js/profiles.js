// The form of profiles: only the choices of the chosen profile are shown, and asked for.

const OTHER = "__other__";

function show(element, wanted) {
  element.hidden = !wanted;
  // What is hidden must neither be sent nor keep the form from being sent.
  for (const field of element.querySelectorAll("input, select")) {
    field.disabled = !wanted;
  }
}

function update(list) {
  for (const profile of list.querySelectorAll(".profile")) {
    const chosen = profile.querySelector('input[name="profile"]').checked;
    for (const option of profile.querySelectorAll(".profile-option")) {
      show(option, chosen);
      const select = option.querySelector("select");
      const other = option.querySelector(".profile-option-other");
      if (chosen && select && other) {
        show(other, select.value === OTHER);
      }
    }
  }
}

for (const list of document.querySelectorAll(".profiles")) {
  list.addEventListener("change", () => update(list));
  update(list);
}

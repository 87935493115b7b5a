/* The boot order: rows are dragged by their handle; Space on a handle picks the row up, arrows move it, Space or
   Enter puts it down, Escape puts it back. The arrow buttons, which are plain submits without this, move at once.
   Every change is told to the form, which then shows what it leads to. */
"use strict";
(() => {
  const listOf = (element) => element.closest("[data-boot-order]");
  const rows = (list) => [...list.querySelectorAll("[data-key]")];
  const say = (list, text) => { const place = list.parentElement.querySelector("[data-boot-says]"); if (place) place.textContent = text; };
  const where = (row) => `${row.dataset.key}, place ${rows(listOf(row)).indexOf(row) + 1} of ${rows(listOf(row)).length}`;
  let held = null;  // { row, before, moved } while a row is in the hand

  const number = (list) => {
    let place = 0;
    for (const row of rows(list)) row.querySelector("[data-place]").textContent = row.querySelector("input[name=on]").checked ? ++place : "";
  };
  const step = (row, by) => {
    const list = listOf(row), all = rows(list), to = all.indexOf(row) + by;
    if (to < 0 || to >= all.length) return false;
    if (by < 0) all[to].before(row); else all[to].after(row);
    number(list);
    return true;
  };
  const tell = (list) => list.dispatchEvent(new Event("change", { bubbles: true }));
  const take = (row) => {
    held = { row, before: rows(listOf(row)), moved: false };
    row.classList.add("is-held");
    row.querySelector("[data-handle]").setAttribute("aria-pressed", "true");
    say(listOf(row), `Picked up ${where(row)}.`);
  };
  const leave = (back) => {
    if (!held) return;
    const { row, before, moved } = held, list = listOf(row);
    held = null;
    row.classList.remove("is-held");
    row.querySelector("[data-handle]").setAttribute("aria-pressed", "false");
    if (back) { list.append(...before); number(list); row.querySelector("[data-handle]").focus(); }
    say(list, back ? `Put back ${where(row)}.` : `Put down ${where(row)}.`);
    if (moved && !back) tell(list);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-boot-order] [data-move]");
    if (!button) return;
    event.preventDefault();
    const row = button.closest("[data-key]"), list = listOf(row);
    if (!step(row, Number(button.dataset.move))) return;
    button.focus();
    say(list, `Moved ${where(row)}.`);
    tell(list);
  });

  document.addEventListener("keydown", (event) => {
    const handle = event.target.closest?.("[data-handle]");
    if (!handle) return;
    const row = handle.closest("[data-key]");
    if (event.key === " " || event.key === "Enter") {
      if (held?.row === row) leave(false); else { leave(false); take(row); }
    } else if (held?.row === row && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      if (step(row, event.key === "ArrowUp" ? -1 : 1)) { held.moved = true; handle.focus(); say(listOf(row), where(row)); }
    } else if (held?.row === row && event.key === "Escape") leave(true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  document.addEventListener("focusout", (event) => {
    // Moving a row takes the focus away for a moment; whoever really leaves has put it down.
    if (held && !held.pointer && event.target.matches?.("[data-handle]")) setTimeout(() => {
      if (held && !held.pointer && !held.row.contains(document.activeElement)) leave(false);
    });
  });

  document.addEventListener("pointerdown", (event) => {
    const handle = event.target.closest?.("[data-handle]");
    if (!handle || event.button) return;
    leave(false);
    take(handle.closest("[data-key]"));
    held.pointer = event.pointerId;
    handle.setPointerCapture(event.pointerId);
  });
  document.addEventListener("pointermove", (event) => {
    if (!held || held.pointer !== event.pointerId) return;
    const { row } = held;
    const middle = (other) => { const box = other.getBoundingClientRect(); return box.top + box.height / 2; };
    for (let other = row.previousElementSibling; other && event.clientY < middle(other); other = row.previousElementSibling) { other.before(row); held.moved = true; }
    for (let other = row.nextElementSibling; other && event.clientY > middle(other); other = row.nextElementSibling) { other.after(row); held.moved = true; }
    number(listOf(row));
  });
  for (const name of ["pointerup", "pointercancel"]) document.addEventListener(name, (event) => {
    if (held?.pointer === event.pointerId) leave(name === "pointercancel");
  });

  // Handles are of no use without this file, so they come hidden; one that had the focus gets it again.
  let focused = "";
  document.addEventListener("htmx:beforeSwap", () => { focused = document.activeElement?.matches("[data-handle]") ? document.activeElement.id : ""; });
  const ready = (root) => {
    for (const handle of root.querySelectorAll("[data-handle]")) handle.hidden = false;
    for (const words of root.querySelectorAll(".if-script")) words.hidden = false;
    if (focused) document.getElementById(focused)?.focus();
    focused = "";
  };
  document.addEventListener("htmx:afterSwap", (event) => ready(event.detail.target));
  ready(document);
})();

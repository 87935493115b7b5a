/* Choosing VMs in the list: all at once, ranges with Shift, and a choice that survives a refresh of the rows. */
"use strict";
(() => {
  const form = document.getElementById("bulk");
  if (!form) return;
  const boxes = () => [...form.querySelectorAll('input[name="vm"]')];
  let last = null;
  const chosen = new Set();

  const tell = () => {
    const all = form.querySelector("[data-all]"), each = boxes(), count = each.filter((box) => box.checked).length;
    if (all) { all.checked = count > 0 && count === each.length; all.indeterminate = count > 0 && count < each.length; }
    const said = form.querySelector("[data-chosen]");
    if (!said) return; // there is nothing to choose from
    said.textContent = count ? `${count} chosen` : "None chosen";
    for (const button of form.querySelectorAll("[data-bulk]")) button.disabled = !count;
  };
  form.addEventListener("click", (event) => {
    if (event.target.matches("td.select")) { event.target.querySelector("input")?.click(); return; } // a finger beside the box
    const box = event.target.closest('input[name="vm"]');
    if (!box) return;
    const each = boxes();
    if (event.shiftKey && last && each.includes(last)) {
      const [from, to] = [each.indexOf(last), each.indexOf(box)].sort((a, b) => a - b);
      for (const between of each.slice(from, to + 1)) between.checked = box.checked;
    }
    last = box;
  });
  form.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) for (const box of boxes()) box.checked = event.target.checked;
    chosen.clear();
    for (const box of boxes()) if (box.checked) chosen.add(box.value);
    tell();
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (!form.contains(event.detail.target)) return;
    for (const box of boxes()) box.checked = chosen.has(box.value);
    tell();
  });
  tell();
})();

/* The table of CPU flags: a search, and a box that leaves out what the node lacks and nobody set. Neither is a field
   of the form; both are shown only where this file runs, and stay as they are when the server shows the form anew. */
"use strict";
(() => {
  const TOOLS = "[data-filter], [data-filter-only]";
  const kept = { word: "", only: false };
  const narrow = (head) => {
    for (const row of head.parentElement.querySelectorAll("tbody > tr")) {
      const absent = kept.only && "absent" in row.dataset && !row.querySelector("select").value;
      row.hidden = absent || !row.textContent.toLowerCase().includes(kept.word.trim().toLowerCase());
    }
  };
  document.addEventListener("input", (event) => {
    const head = event.target.closest(TOOLS)?.closest(".flags-head");
    if (!head) return;
    kept.word = head.querySelector("[data-filter]").value;
    kept.only = head.querySelector("[data-filter-only]")?.checked ?? false;
    narrow(head);
  });
  document.addEventListener("change", (event) => { if (event.target.closest(TOOLS)) event.stopPropagation(); }, true);
  const show = () => {
    for (const head of document.querySelectorAll(".flags-head")) {
      head.querySelector("[data-filter]").value = kept.word;
      for (const tool of head.querySelectorAll(TOOLS)) {
        if ("filterOnly" in tool.dataset) tool.checked = kept.only;
        (tool.closest("label") ?? tool).hidden = false;
      }
      narrow(head);
    }
  };
  document.addEventListener("htmx:afterSwap", show);
  show();
})();

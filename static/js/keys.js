/* Keyboard: "/" search, "c" create, "g v" list, "g t" tasks, "?" the list of these. */
"use strict";
(() => {
  const go = { v: "vms", t: "tasks" };
  let waiting = 0;
  const busy = (target) => target.closest?.("input, textarea, select, canvas, [contenteditable], [data-keys=off], dialog[open]");
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || busy(event.target)) return;
    const follow = (name) => document.querySelector(`[data-go="${name}"]`)?.click();
    if (Date.now() - waiting < 1200 && go[event.key]) { waiting = 0; event.preventDefault(); follow(go[event.key]); return; }
    waiting = event.key === "g" ? Date.now() : 0;
    if (event.key === "/") { event.preventDefault(); document.getElementById("search")?.focus(); }
    else if (event.key === "c") follow("create");
    else if (event.key === "?") document.getElementById("keys-help")?.showModal();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-keys-help]")) document.getElementById("keys-help")?.showModal();
    if (event.target.closest("#keys-help [data-close]") || event.target.id === "keys-help") document.getElementById("keys-help").close();
  });
})();

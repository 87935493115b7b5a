/* The resource tree: width, folded nodes, arrow keys, the current page; last seen rows are shown at once. */
"use strict";
(() => {
  const side = document.querySelector(".shell-tree");
  const tree = document.getElementById("tree");
  if (!side || !tree) return;
  const root = document.documentElement;
  const folded = new Set(JSON.parse(localStorage.getItem("pvelite.folded") ?? "[]"));
  const cache = `pvelite.tree.${tree.dataset.user}`;

  // Tab stops once in the tree: at the row the arrows were at, else at the page's own, else at the first.
  const shown = () => [...tree.querySelectorAll("summary, a.tree-row")].filter((row) => !row.closest("details:not([open]) > .tree-vms"));
  const stopAt = (row) => { for (const each of tree.querySelectorAll("summary, a.tree-row")) each.tabIndex = each === row ? 0 : -1; };
  const stop = () => {
    const rows = shown();
    stopAt(rows.find((row) => row === document.activeElement) ?? rows.find((row) => row.hasAttribute("aria-current")) ?? rows[0]);
  };
  tree.addEventListener("focusin", (event) => { if (event.target.matches("summary, a.tree-row")) stopAt(event.target); });

  const dress = () => {
    for (const group of tree.querySelectorAll("details[data-fold]")) group.open = !folded.has(group.dataset.fold);
    const here = location.pathname.split("/").slice(0, 3).join("/");
    for (const row of tree.querySelectorAll("[data-path]")) {
      if (row.dataset.path === here) row.setAttribute("aria-current", "page");
      else row.removeAttribute("aria-current");
    }
    stop();
  };
  tree.addEventListener("toggle", (event) => {
    const name = event.target.dataset?.fold;
    if (!name) return;
    if (event.target.open) folded.delete(name); else folded.add(name);
    localStorage.setItem("pvelite.folded", JSON.stringify([...folded]));
    stop();
  }, true);
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== tree) return;
    dress();
    const text = event.detail.xhr?.responseText;
    if (text && text.length < 400000) try { sessionStorage.setItem(cache, text); } catch { /* full */ }
  });
  // What the tree showed a moment ago, until the fresh one arrives: no empty flash between two pages.
  const seen = sessionStorage.getItem(cache);
  if (seen) { htmx.swap(tree, seen, { swapStyle: "innerHTML" }); dress(); }

  const grip = side.querySelector(".tree-grip");
  const resize = (width) => {
    const wide = Math.round(Math.min(600, Math.max(180, width)));
    root.style.setProperty("--tree", `${wide}px`);
    grip.setAttribute("aria-valuenow", String(wide));
    localStorage.setItem("pvelite.tree", String(wide));
  };
  grip.addEventListener("pointerdown", (event) => {
    grip.setPointerCapture(event.pointerId);
    const move = (drag) => resize(drag.clientX);
    grip.addEventListener("pointermove", move);
    grip.addEventListener("pointerup", () => grip.removeEventListener("pointermove", move), { once: true });
  });
  grip.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -16, ArrowRight: 16 }[event.key];
    if (step) resize(side.offsetWidth + step);
  });

  // The menu of a VM: right click, the menu key or Shift-F10 on its row.
  const menu = document.getElementById("context-menu");
  let from = null;
  const close = (back) => {
    if (menu.hidden) return;
    menu.hidden = true; menu.replaceChildren();
    if (back && from?.isConnected) from.focus();
  };
  tree.addEventListener("contextmenu", async (event) => {
    const row = event.target.closest('a.tree-row[data-path^="/vms/"]');
    if (!row) return;
    event.preventDefault();
    from = row;
    const box = row.getBoundingClientRect(), keyboard = event.button !== 2;
    const [x, y] = keyboard ? [box.left + 24, box.bottom] : [event.clientX, event.clientY];
    await htmx.ajax("GET", `${row.dataset.path}/menu`, { target: menu, swap: "innerHTML" });
    if (!menu.firstElementChild) return;
    menu.hidden = false;
    menu.style.left = `${Math.max(0, Math.min(x, innerWidth - menu.offsetWidth - 8))}px`;
    menu.style.top = `${Math.max(0, Math.min(y, innerHeight - menu.offsetHeight - 8))}px`;
    menu.querySelector('.menu-item:not([aria-disabled="true"])')?.focus();
  });
  menu.addEventListener("keydown", (event) => {
    const items = [...menu.querySelectorAll(".menu-item")], at = items.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (event.key === "Escape") close(true);
    else if (to !== undefined) items[(to + items.length) % items.length].focus();
    else return;
    event.preventDefault();
  });
  document.addEventListener("click", (event) => { if (!event.target.closest('#context-menu [aria-disabled="true"]')) setTimeout(() => close(false)); });
  addEventListener("blur", () => close(false));
  addEventListener("scroll", () => close(false), true);

  tree.addEventListener("keydown", (event) => {
    const rows = shown();
    const at = rows.indexOf(document.activeElement);
    if (at < 0) return;
    const group = document.activeElement.closest("details");
    const on = document.activeElement.matches("summary");
    if (event.key === "ArrowDown") rows[Math.min(at + 1, rows.length - 1)].focus();
    else if (event.key === "ArrowUp") rows[Math.max(at - 1, 0)].focus();
    else if (event.key === "Home") rows[0].focus();
    else if (event.key === "End") rows.at(-1).focus();
    else if (event.key === "ArrowLeft" && group) { if (on) group.open = false; else group.querySelector("summary").focus(); }
    else if (event.key === "ArrowRight" && on) group.open = true;
    else if (event.key === "Enter" && on) document.activeElement.querySelector("a")?.click();
    else return;
    event.preventDefault();
  });
})();

/* What every page needs: CSRF for htmx, theme, drawer, menus, toasts, copy. */
"use strict";
(() => {
  const store = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private mode */ } };
  const cookie = (name) => document.cookie.split("; ").find((part) => part.startsWith(`${name}=`))?.slice(name.length + 1) ?? "";

  // One place puts the CSRF token on every request htmx makes.
  document.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["X-CSRFToken"] = cookie("csrftoken");
  });

  // Theme: dark and light, remembered; without a choice the system's.
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    const root = document.documentElement;
    const now = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    store("pvelite.theme", root.dataset.theme);
  });

  // Drawer: the tree on narrow screens.
  const shell = document.querySelector(".shell");
  const drawer = (open) => {
    if (!shell) return;
    shell.dataset.drawer = open ? "open" : "closed";
    document.querySelector("[data-drawer-toggle]")?.setAttribute("aria-expanded", String(open));
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-drawer-toggle]")) drawer(shell.dataset.drawer !== "open");
    else if (shell?.dataset.drawer === "open" && !event.target.closest(".shell-tree")) drawer(false);
  });

  // Menus are <details>: one open at a time, Escape closes and gives the focus back, arrows walk.
  const menus = () => document.querySelectorAll("details.menu[open]");
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest('.menu-item:not([aria-disabled="true"])');
    // Later, so that the choice itself still happens.
    for (const menu of menus()) if (!menu.contains(event.target) || chosen) setTimeout(() => { menu.open = false; });
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.target.closest?.("details.menu");
    if (event.key === "Escape") {
      for (const open of menus()) { open.open = false; open.querySelector("summary").focus(); }
      drawer(false);
    }
    if (!menu?.open || event.target.matches("input, textarea, select")) return;
    const items = [...menu.querySelectorAll(".menu-item")], at = items.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at < 0 ? -1 : at - 1, Home: 0, End: -1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    items.at(to === items.length ? 0 : to)?.focus();
  });

  // A menu opens where there is room: leftwards at the right edge, upwards at the lower one.
  document.addEventListener("toggle", (event) => {
    const menu = event.target, list = menu.matches?.("details.menu") && menu.open && menu.querySelector(".menu-list");
    if (!list) return;
    menu.classList.remove("is-up", "is-left");
    const shown = (menu.closest("main, dialog") ?? document.documentElement).getBoundingClientRect(), head = menu.getBoundingClientRect();
    let box = list.getBoundingClientRect();
    if (box.right > shown.right && head.right - box.width >= shown.left) menu.classList.add("is-left");
    if (box.bottom > shown.bottom && head.top - box.height >= shown.top) menu.classList.add("is-up");
    box = list.getBoundingClientRect();
    if (box.bottom > shown.bottom) list.scrollIntoView({ block: "nearest" });
  }, true);
  // A form in a menu that went through has done its work.
  document.addEventListener("htmx:afterRequest", (event) => {
    const menu = event.target.closest?.("form")?.closest("details.menu");
    if (menu && event.detail.xhr.status < 400) menu.open = false;
  });

  // A disabled control says why instead of doing anything.
  document.addEventListener("click", (event) => {
    const control = event.target.closest('[aria-disabled="true"]');
    if (control) event.preventDefault();
  }, true);

  // Toasts only echo; what went well leaves by itself, what did not stays until it is dismissed.
  const toasts = document.getElementById("toasts");
  const arm = (toast) => { if (toast.dataset.toast !== "error") setTimeout(() => toast.remove(), 6000); };
  if (toasts) {
    toasts.querySelectorAll("[data-toast]").forEach(arm);
    new MutationObserver((changes) => {
      for (const change of changes) for (const node of change.addedNodes) if (node.dataset?.toast) arm(node);
    }).observe(toasts, { childList: true });
    document.addEventListener("click", (event) => event.target.closest("[data-close-toast]")?.closest("[data-toast]").remove());
  }
  const say = (text, tone) => {
    const shape = document.getElementById("toast-shape");
    if (!shape || !toasts) return;
    const toast = shape.content.firstElementChild.cloneNode(true);
    toast.dataset.toast = tone;
    toast.classList.add(`is-${tone}`);
    toast.querySelector("[data-text]").textContent = text;
    toasts.append(toast);
  };

  // Answers htmx cannot show: say so where the eye already is.
  document.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    if (status === 401) return;
    if (event.detail.requestConfig.verb !== "get") say(`The server answered ${status}. Nothing was changed.`, "error");
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.xhr.status === 404 && event.detail.requestConfig.verb !== "get") say("That no longer exists.", "error");
  });
  document.addEventListener("htmx:sendError", (event) => {
    if (event.detail.requestConfig.verb !== "get") say("The server cannot be reached. Nothing was sent.", "error");
  });

  // Copy buttons of code panels.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = button.closest(".code-panel").querySelector("pre").textContent;
    const word = button.querySelector("span");
    try { await navigator.clipboard.writeText(text); word.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(button.closest(".code-panel").querySelector("pre")); word.textContent = "Press Ctrl-C"; }
    setTimeout(() => { word.textContent = "Copy"; }, 2000);
  });

  // Filters apply when a choice is made; the button stays for those without JavaScript.
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-auto-submit] select")) event.target.form.requestSubmit();
  });

  // On a narrow screen the row of tabs begins where the present one is.
  const tabs = document.querySelector(".tabs"), here = tabs?.querySelector("[aria-current=page]");
  if (here) tabs.scrollLeft = here.offsetLeft - tabs.offsetLeft - (tabs.clientWidth - here.offsetWidth) / 2;

  // The bottom log remembers whether it was open.
  const log = document.getElementById("task-log");
  if (log) {
    try { log.open = localStorage.getItem("pvelite.tasks") === "open"; } catch { /* private mode */ }
    log.addEventListener("toggle", () => store("pvelite.tasks", log.open ? "open" : "closed"));
  }
})();

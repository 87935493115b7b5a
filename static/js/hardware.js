/* The Hardware page. A row is chosen with the mouse or the arrows; Enter edits, Delete removes, "a" opens Add; the
   toolbar acts on the chosen row through that row's own menu. In dialogs, what was typed while an answer was on its
   way survives it. Without this file every row's link and menu still work. */
"use strict";
(() => {
  const page = document.getElementById("vm-config");
  const rows = () => [...page.querySelectorAll("[data-row]")];
  let chosen = "", focused = false;

  const row = () => document.getElementById(chosen);
  const item = (name) => row()?.querySelector(`[data-act="${name}"] :is(.menu-item, .btn)`);
  const act = (name) => item(name)?.click();

  const choose = (target, focus = true) => {
    chosen = target.id;
    for (const each of rows()) {
      each.tabIndex = each === target ? 0 : -1;
      if (each === target) each.setAttribute("aria-current", "true"); else each.removeAttribute("aria-current");
    }
    if (focus) target.focus({ preventScroll: false });
    tools();
  };

  // The toolbar's buttons say what the chosen row's menu says.
  const tools = () => {
    for (const tool of page.querySelectorAll("[data-tool]")) {
      const source = item(tool.dataset.tool);
      const why = !chosen ? "Choose a row first." : source ? source.title : "The chosen row knows nothing of the kind.";
      const off = !source || source.getAttribute("aria-disabled") === "true";
      tool.setAttribute("aria-disabled", String(off));
      tool.title = off ? why : "";
      if (source) tool.querySelector(".word").textContent = source.closest("[data-act]").dataset.label;
    }
  };
  const prepare = () => {
    page.querySelector("[data-row-tools]")?.removeAttribute("hidden");
    const target = row() ?? null;
    if (target) choose(target, focused); else { chosen = ""; tools(); }
  };

  if (page) {
    page.addEventListener("click", (event) => {
      const tool = event.target.closest("[data-tool]");
      if (tool) { if (tool.getAttribute("aria-disabled") !== "true") act(tool.dataset.tool); return; }
      const target = event.target.closest("[data-row]");
      if (target && !event.target.closest("details, button, form")) choose(target, !event.target.closest("a"));
    });
    page.addEventListener("dblclick", (event) => {
      const target = event.target.closest("[data-row]");
      if (!target || event.target.closest("a, details, button, form")) return;
      getSelection().removeAllRanges();
      act("edit");
    });
    page.addEventListener("focusin", (event) => { if (event.target.matches("[data-row]")) choose(event.target, false); });
    page.addEventListener("keydown", (event) => {
      if (!event.target.matches("[data-row]") || event.ctrlKey || event.metaKey || event.altKey) return;
      const all = rows(), at = all.indexOf(event.target);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
      if (to !== undefined) choose(all[Math.max(0, Math.min(all.length - 1, to))]);
      else if (event.key === "Enter") act("edit");
      else if (event.key === "Delete") act("remove");
      else return;
      event.preventDefault();
    });
    document.addEventListener("keydown", (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.key !== "a") return;
      if (event.target.closest?.("input, textarea, select, canvas, dialog[open]")) return;
      const menu = page.querySelector("[data-add]");
      if (!menu) return;
      menu.open = true;
      menu.querySelector(".menu-item")?.focus();
      event.preventDefault();
    });
    page.addEventListener("htmx:beforeSwap", () => { focused = document.activeElement?.matches("[data-row]") ?? false; });
    page.addEventListener("htmx:afterSwap", prepare);
    prepare();
    const named = location.hash.startsWith("#row-") && document.getElementById(location.hash.slice(1));
    if (named) choose(named);
  }

  // Dialogs: every change of a field is looked at by the server, which shows the fields anew.
  const body = (event) => (event.detail.target?.id === "device-body" ? event.detail.target : null);
  const fields = (root) => [...root.querySelectorAll("input[name], select[name], textarea[name]")].filter((field) => field.type !== "hidden" && field.type !== "radio");
  const state = (field) => (field.type === "checkbox" ? String(field.checked) : field.value);
  const snapshot = (root) => new Map(fields(root).map((field) => [field.name, state(field)]));
  let sent = null, late = null, open = [], posts = 0;
  const looks = new WeakMap();

  document.addEventListener("htmx:beforeRequest", (event) => {
    const root = body(event);
    if (root) { sent = snapshot(root); looks.set(event.detail.xhr, posts); }
    else if (event.target.matches?.(".option-form")) posts++;
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const root = body(event);
    if (!root) return;
    // A look that was overtaken by OK must not cover what OK was answered.
    if (looks.has(event.detail.xhr) && looks.get(event.detail.xhr) !== posts) { event.detail.shouldSwap = false; return; }
    late = sent && event.detail.xhr.status < 400 ? new Map([...snapshot(root)].filter(([name, value]) => sent.get(name) !== value)) : null;
    open = [...root.querySelectorAll("details[open][id]")].map((each) => each.id);
    sent = null;
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    const root = body(event);
    if (!root) return;
    for (const id of open) { const each = document.getElementById(id); if (each) each.open = true; }
    open = [];
    let changed = null;
    for (const field of fields(root)) {
      const value = late?.get(field.name);
      if (value === undefined || field.disabled) continue;
      if (field.type === "checkbox") field.checked = value === "true"; else field.value = value;
      if (field !== document.activeElement) changed = field;
    }
    late = null;
    changed?.dispatchEvent(new Event("change", { bubbles: true }));
    if (event.detail.xhr.status < 400) return;
    const why = root.querySelector(".error-summary, .notice.is-error, .finding.is-error");
    why?.focus();
    why?.scrollIntoView({ block: "nearest" });
  });

  // A minimum that equals the memory follows it while it is typed, as it will when it is saved.
  let follows = false;
  const least = (field) => field.form?.elements.balloon;
  document.addEventListener("focusin", (event) => {
    if (event.target.name === "memory.current") follows = least(event.target)?.value === event.target.value;
  });
  document.addEventListener("input", (event) => {
    if (event.target.name === "memory.current" && follows && least(event.target)) least(event.target).value = event.target.value;
  });
})();

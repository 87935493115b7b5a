/* The wizard: every change is saved at once and the step shown anew by the server. What was typed while an
   answer was on its way, open explanations and scroll positions survive the exchange. Without this file every
   button still works as a plain form. */
"use strict";
(() => {
  const form = () => document.getElementById("wizard");
  const fields = (root) => [...root.querySelectorAll("input[name], select[name], textarea[name]")].filter((field) => field.type !== "hidden" && field.type !== "radio");
  const key = (field) => `${field.form.dataset.tab}/${field.form.elements.slot?.value ?? ""}/${field.name}`;
  const state = (field) => (field.type === "checkbox" ? String(field.checked) : field.value);
  const snapshot = () => new Map(fields(form()).map((field) => [key(field), state(field)]));
  // Each request of this page carries its number: a save that was overtaken by the next must not undo it.
  const page = crypto.getRandomValues(new Uint32Array(2)).join("-");
  let number = 0;
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.target.id !== "wizard") return;
    event.detail.parameters.page = page;
    event.detail.parameters.seq = String(++number);
  });
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "wizard") return;
    event.target.elements.page.value = page;
    event.target.elements.seq.value = String(++number);
  });

  let sent = null, late = null, kept = null;

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id === "wizard") sent = snapshot();
  });

  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.target.id !== "wizard" || !sent) return;
    late = new Map([...snapshot()].filter(([name, value]) => sent.get(name) !== value));
    const side = document.querySelector(".argv");
    kept = { open: [...form().querySelectorAll("details[open][id]")].map((each) => each.id), side: side?.scrollTop ?? 0 };
    sent = null;
  });

  document.addEventListener("htmx:afterSwap", () => {
    if (!form() || !kept) return;
    for (const id of kept.open) { const each = document.getElementById(id); if (each) each.open = true; }
    const side = document.querySelector(".argv");
    if (side) side.scrollTop = kept.side;
    kept = null;
    prepare();
    let changed = null;
    for (const field of fields(form())) {
      const value = late?.get(key(field));
      if (value === undefined || field.disabled) continue;
      if (field.type === "checkbox") field.checked = value === "true"; else field.value = value;
      if (field !== document.activeElement) changed = field;
    }
    late = null;
    changed?.dispatchEvent(new Event("change", { bubbles: true }));
  });

  // Advanced opens at once; the browser remembers it through the form's own button.
  document.addEventListener("click", (event) => {
    const toggle = event.target.closest("[data-advanced-toggle]");
    if (!toggle) return;
    event.preventDefault();
    const open = toggle.getAttribute("aria-checked") !== "true";
    htmx.ajax("POST", form().action, { source: form(), target: "#wizard", swap: "outerHTML show:none", values: { go: `advanced:${open ? 1 : 0}` } });
  });

  // An argument's link leads to its field, also to one that Advanced still hides.
  const reveal = () => {
    const field = location.hash.startsWith("#field-") && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!field) return;
    const toggle = document.querySelector("[data-advanced-toggle]");
    if (field.closest(".advanced") && toggle?.getAttribute("aria-checked") === "false") form().dataset.advanced = "open";
    field.scrollIntoView({ block: "center" });
    field.querySelector("input:not([type=hidden]), select, textarea")?.focus({ preventScroll: true });
  };
  addEventListener("hashchange", reveal);

  // A rate is meant in megabytes and often read as megabits: both are said while it is typed.
  document.addEventListener("input", (event) => {
    if (event.target.name !== "rate" || !form()?.contains(event.target)) return;
    const row = event.target.closest(".row"), value = Number(event.target.value);
    let note = row.querySelector(".field-note");
    if (!note) { note = document.createElement("span"); note.className = "field-note"; row.append(note); }
    const bits = value * 8 * 1.048576; // MB of 2^20 bytes, as Proxmox counts them
    note.textContent = event.target.value.trim() && Number.isFinite(bits) ? `about ${bits >= 10 ? Math.round(bits) : Number(bits.toPrecision(2))} Mbit/s` : "";
  });

  const centre = () => {
    const steps = form()?.querySelector(".wizard-steps"), now = steps?.querySelector(".is-now");
    if (now) steps.scrollLeft = now.offsetLeft - (steps.clientWidth - now.offsetWidth) / 2;
  };
  addEventListener("resize", centre);
  const prepare = () => {
    centre();
    const old = !CSS.supports("selector(::details-content)");
    if (old && matchMedia("(min-width: 1200px)").matches) document.getElementById("command").open = true;
  };
  if (form()) {
    prepare();
    document.querySelector("#wizard > .error-summary")?.focus();
    reveal();
  }
})();

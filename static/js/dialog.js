/* Dialogs: a link with data-dialog is a page of its own; with JavaScript its <dialog> opens in place. */
"use strict";
(() => {
  const host = document.getElementById("dialogs");
  if (!host) return;
  let opener = null;

  // A typed confirmation arms its button; the server checks it again.
  const arm = (field) => {
    const button = field.form.querySelector("[data-armed]");
    const armed = field.value.trim() === field.dataset.confirm;
    button.setAttribute("aria-disabled", String(!armed));
    button.title = armed ? "" : `Type ${field.dataset.confirm} first`;
  };
  document.addEventListener("input", (event) => { if (event.target.dataset?.confirm) arm(event.target); });
  document.querySelectorAll("[data-confirm]").forEach(arm);

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-dialog]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    opener = link.closest("details.menu")?.querySelector("summary") ?? link;
    htmx.ajax("GET", link.href, { target: host, swap: "innerHTML" });
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== host) return;
    const dialog = host.querySelector("dialog");
    if (!dialog || dialog.open) return;
    const leave = () => { dialog.remove(); opener?.isConnected && opener.focus(); };
    dialog.addEventListener("close", leave, { once: true });
    dialog.addEventListener("click", (click) => {
      if (click.target === dialog || click.target.closest("[data-close]")) { click.preventDefault(); dialog.close(); }
    });
    dialog.querySelectorAll("[data-confirm]").forEach(arm);
    dialog.showModal();
    // Enter, pressed by habit, must not remove anything: where a danger is all there is to press, Cancel comes first.
    const first = dialog.querySelector("[autofocus]") ?? dialog.querySelector("input:not([type=hidden]), select, textarea, button");
    (first?.matches(".btn-danger:not([autofocus])") ? dialog.querySelector(".dialog-foot [data-close]") ?? first : first)?.focus();
  });

  // Its form went through: the dialog has done its work, unless the answer is shown in it (data-stays).
  // A refusal stays inside the dialog.
  document.addEventListener("htmx:afterRequest", (event) => {
    const dialog = event.target.closest?.("dialog");
    if (dialog && event.detail.xhr.status < 400 && event.detail.requestConfig.verb !== "get" && !event.target.closest("[data-stays]")) dialog.close();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const place = event.detail.requestConfig?.elt?.closest?.("dialog")?.querySelector("[data-said]");
    if (!place || event.detail.xhr.status < 400) return;
    event.detail.target = place;
    event.detail.swapOverride = "innerHTML";
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target?.matches("dialog [data-said]:not(.dialog-body)")) event.detail.target.scrollIntoView({ block: "nearest" });
  });

})();

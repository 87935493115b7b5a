/* Texts on their way into the guest: typed by the server key by key, or through the clipboard. */
import { remembered } from "./console-link.js";

const ASK_EVERY = 700, LOOK_EVERY = 3000;

async function answer(address, options) {
  const response = await fetch(address, { credentials: "same-origin", redirect: "manual", cache: "no-store", ...options, headers: { Accept: "application/json" } });
  const json = response.headers.get("Content-Type")?.startsWith("application/json");
  if (json) return response.json();
  throw new Error(response.type === "opaqueredirect" ? "Signed out" : response.status === 403 ? "No longer permitted" : "The server does not answer");
}

/* The form "Type text": one text at a time; what is under way can be cancelled, and goes on when the menu is closed. */
export function typing(root, link) {
  const form = root.querySelector("[data-type]"), field = form.querySelector("[data-text]");
  const words = form.querySelector("[data-type-words]"), cancel = form.querySelector("[data-act=cancel-type]");
  const button = form.querySelector("[type=submit]"), layout = form.elements.layout, name = `layout-${link.vmid}`;
  let under = null;

  const say = (text, failed = false) => { words.hidden = !text; words.textContent = text; words.classList.toggle("is-wrong", failed); };
  const busy = (task) => { under = task; cancel.hidden = !task; button.disabled = Boolean(task); };

  async function follow(task) {
    busy(task);
    try {
      while (!task.finished) {
        const share = task.progress === null ? "" : ` (${Math.round(task.progress * 100)} %)`;
        say(`${task.words}${share}`);
        await new Promise((done) => setTimeout(done, ASK_EVERY));
        task = await answer(task.state);
      }
      say(task.words, task.failed);
      if (!task.failed) field.value = "";
    } catch (error) { say(error.message, true); }
    busy(null);
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (under || link.viewOnly || button.getAttribute("aria-disabled") === "true") return;
    remembered(name, layout.value);
    button.disabled = true;
    say("Asked for");
    try {
      const found = await answer(form.action, { method: "POST", body: new FormData(form) });
      if (found.error) { say(found.error, true); button.disabled = false; } else await follow(found);
    } catch (error) { say(error.message, true); button.disabled = false; }
  });

  field.addEventListener("input", () => { if (!under) say(""); });
  const before = remembered(name);
  if (before && [...layout.options].some((option) => option.value === before)) layout.value = before;
  return {
    "cancel-type": () => {
      if (!under) return;
      const body = new FormData();
      body.set("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
      fetch(under.cancel, { method: "POST", body, headers: { "HX-Request": "true" } });
      say("Cancelling");
    },
  };
}

/* The menu "Clipboard". `current` answers the connection while it may be typed into, else null. */
export function clipboard(root, current) {
  const menu = root.querySelector("[data-clip-menu]"), field = menu.querySelector("[data-clip]");
  const words = menu.querySelector("[data-clip-words]"), browser = menu.querySelector("[data-clip-browser]");
  let timer = null;

  async function look() {
    try { words.textContent = (await answer(menu.dataset.url)).words; } catch (error) { words.textContent = error.message; }
    clearTimeout(timer);
    if (menu.open) timer = setTimeout(look, LOOK_EVERY);
  }

  menu.addEventListener("toggle", () => { if (menu.open) look(); });
  if (!navigator.clipboard) {
    browser.hidden = false;
    browser.textContent = "This browser gives pages no clipboard without HTTPS: paste into the field and copy from it yourself.";
  }
  return {
    heard: (text) => { field.value = text; },
    acts: {
      "clip-send": () => { current()?.clipboardPasteFrom(field.value); words.textContent = "Sent to the guest's clipboard"; },
      "clip-copy": async () => {
        try {
          if (!navigator.clipboard) throw new Error();
          await navigator.clipboard.writeText(field.value);
          words.textContent = "Copied";
        } catch {
          field.select();
          browser.hidden = false;
          browser.textContent = "The browser refused: the text is marked, press Ctrl-C.";
        }
      },
    },
  };
}

/* A screenshot by the server, of the whole screen whatever this page shows. Rejects when none comes. */
async function pictured(form) {
  const response = await fetch(form.dataset.url, { method: "POST", body: new FormData(form), credentials: "same-origin" });
  if (!response.ok || !/\/screenshots\/\d+$/.test(new URL(response.url).pathname)) throw new Error();
  for (let tries = 0; tries < 16; tries++) {
    const found = await fetch(`${response.url}?file=1`, { credentials: "same-origin", cache: "no-store" });
    if (found.status === 200) return found.blob();
    if (found.status !== 202) break;
    await new Promise((done) => setTimeout(done, 250));
  }
  throw new Error();
}

/* Save one; where the server draws none, what `shown` (with a canvas's toBlob) has. */
export async function screenshot(root, vmid, shown) {
  const when = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  const blob = await pictured(root.querySelector("[data-shot]")).catch(() => new Promise((done) => shown.toBlob(done, "image/png")));
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = `vm-${vmid}-${when}.png`;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
}

/* The console page: noVNC with a visible bar. What comes from the guest is shown as text only. */
import RFB from "../vendor/novnc-1.7.0/core/rfb.js";
import { chord, hold, watchTyping } from "./console-keys.js";
import { Link, remembered } from "./console-link.js";
import { clipboard, screenshot, typing as typingForm } from "./console-text.js";

const root = document.getElementById("console");
const find = (selector) => root.querySelector(selector);
const screen = find("[data-screen]"), typing = find("[data-typing]");
let rfb = null, scaled = remembered("scale") !== "no";

const link = new Link(root, { noun: "screen", connect, drop: () => { const old = rfb; rfb = null; old?.disconnect(); } });

function connect(socket) {
  const mine = rfb = new RFB(screen, socket, { shared: true });
  rfb.viewOnly = link.viewOnly;
  rfb.scaleViewport = scaled;
  rfb.background = "transparent";
  rfb.addEventListener("connect", () => {
    link.opened();
    if (!link.viewOnly && (document.activeElement === document.body || root.contains(document.activeElement)) && !find("details[open]")) mine.focus({ preventScroll: true });
  });
  rfb.addEventListener("clipboard", (event) => { if (rfb === mine) clip.heard(event.detail.text); });
  rfb.addEventListener("disconnect", () => {
    if (rfb !== mine) return;
    rfb = null;
    for (const button of root.querySelectorAll("[data-hold]")) button.setAttribute("aria-pressed", "false");
    link.ended(socket);
  });
}

const writable = () => (link.connected && !link.viewOnly ? rfb : null);
const clip = clipboard(root, writable);
const acts = {
  ...link.acts(),
  scale: (button) => {
    scaled = !scaled;
    remembered("scale", scaled ? "yes" : "no");
    button.setAttribute("aria-pressed", scaled);
    if (rfb) rfb.scaleViewport = scaled;
  },
  screenshot: () => screenshot(root, link.vmid, rfb),
  keyboard: () => typing.focus(),
  ...typingForm(root, link),
  ...clip.acts,
};

root.addEventListener("click", (event) => {
  const button = event.target.closest("button, a");
  if (!button || button.getAttribute("aria-disabled") === "true") return;
  if (button.dataset.keys && rfb) {
    chord(rfb, button.dataset.keys.split(" "));
    find("[data-keys-menu]").open = false;
    rfb.focus();
  } else if (button.dataset.hold && rfb) {
    const down = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", down);
    hold(rfb, button.dataset.hold, down);
  } else if (button.dataset.act) acts[button.dataset.act]?.(button, event);
});

/* Without this a keyboard user could never leave the screen: Tab belongs to the guest. */
screen.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey && event.altKey && event.shiftKey)) return;
  rfb?.blur();
  find("[data-act=cad]").focus();
}, true);

find("[data-act=scale]").setAttribute("aria-pressed", scaled);
watchTyping(typing, writable);
link.start();

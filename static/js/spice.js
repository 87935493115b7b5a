/* The SPICE console page. What comes from the guest is drawn into a canvas; its pointer is the cursor over it. */
import { chord, hold, watchTyping } from "./console-keys.js";
import { address, dialled, Link, remembered } from "./console-link.js";
import { clipboard, screenshot, typing as typingForm } from "./console-text.js";
import { Screen } from "./spice-client.js";
import { look } from "./vnc-look.js";

const root = document.getElementById("console");
const find = (selector) => root.querySelector(selector);
const stage = find(".spice-stage"), typing = find("[data-typing]");
let screen = null, canvas = null, scaled = remembered("scale") !== "no";

/* The second look is for a card whose driver draws by itself: QEMU's own picture of that comes a moment later. */
const LOOKS = [0, 2500];
let looking = null;

class SpiceLink extends Link {
  /* The client opens its websockets itself: one for the session, which stands for all, and one a channel. */
  dial(token, path) {
    this.show(false);
    this.lastClose = null;
    const mine = screen = new Screen({
      uri: address(path), token, screen: "spice-screen", scaled: () => scaled,
      pointed: (exactly) => { find("[data-relative]").hidden = exactly; },
      copied: (text) => clip.heard(text),
      lost: () => { find("[data-lost]").hidden = false; },
      shown: (surface, holes) => {
        if (screen !== mine) return;
        show(surface);
        if (root.dataset.forgets) complete(holes);
      },
      gone: (socket, event) => {
        if (screen !== mine) return;
        screen = null;
        for (const button of root.querySelectorAll("[data-hold]")) button.setAttribute("aria-pressed", "false");
        this.lastClose = event;
        this.ended(socket);
      },
    });
    this.socket = mine.ws;
  }
}

const link = new SpiceLink(root, { noun: "screen", connect: () => {}, drop: () => { const old = screen; screen = null; old?.finish(); } });

/* Fill what QEMU does not send. A newer screen ends the looks at an older one. */
async function complete(holes) {
  looking?.close();
  looking = null;
  const here = screen, unsure = find("[data-unsure]");
  try {
    const { status, body } = await link.ticket({ kind: "vnc", view_only: "1" });
    if (status === 409) throw new Error(body.error);
    if (screen !== here || here.display?.holes !== holes) return;
    const socket = looking = dialled(body.ticket, body.path);
    await look(socket, LOOKS, (picture) => {
      if (here.display?.holes === holes) holes.fill(picture);
      unsure.hidden = true;
    });
  } catch {
    if (screen === here && here?.display?.holes === holes) unsure.hidden = holes.filled;
  }
}

function show(surface) {
  canvas = surface;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Screen of VM ${link.vmid}`);
  canvas.addEventListener("keydown", pressed);
  canvas.addEventListener("keyup", (event) => { if (screen?.key(event.code, false)) event.preventDefault(); });
  canvas.addEventListener("blur", () => screen?.release());
  if (!link.connected) link.opened();
  if ((document.activeElement === document.body || root.contains(document.activeElement)) && !find("details[open]")) canvas.focus({ preventScroll: true });
}

/* Without the three together a keyboard user could never leave the screen: Tab belongs to the guest. */
function pressed(event) {
  if (event.ctrlKey && event.altKey && event.shiftKey) { screen?.release(); find("[data-act=cad]").focus(); return; }
  if (screen?.key(event.code, true)) event.preventDefault();
}

function scale() {
  stage.dataset.scaled = scaled ? "yes" : "no";
  find("[data-act=scale]").setAttribute("aria-pressed", scaled);
}

const writable = () => (link.connected ? screen : null);
const clip = clipboard(root, writable);
const acts = {
  ...link.acts(),
  screenshot: () => screenshot(root, link.vmid, canvas),
  scale: () => { scaled = !scaled; remembered("scale", scaled ? "yes" : "no"); scale(); },
  keyboard: () => typing.focus(),
  ...typingForm(root, link),
  ...clip.acts,
};

root.addEventListener("click", (event) => {
  const button = event.target.closest("button, a");
  if (!button || button.getAttribute("aria-disabled") === "true") return;
  if (button.dataset.keys && screen) {
    chord(screen, button.dataset.keys.split(" "));
    find("[data-keys-menu]").open = false;
    canvas?.focus({ preventScroll: true });
  } else if (button.dataset.hold && screen) {
    const down = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", down);
    hold(screen, button.dataset.hold, down);
  } else if (button.dataset.act) acts[button.dataset.act]?.(button, event);
});

scale();
watchTyping(typing, writable);
typing.addEventListener("focus", () => { find("[data-lost]").hidden = true; });
link.start();

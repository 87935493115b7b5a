/* The console page: noVNC with a visible bar. Every opening asks for a fresh ticket, which travels as a websocket
   subprotocol and never in an address. What comes from the guest is shown as text only. */
import RFB from "../vendor/novnc-1.7.0/core/rfb.js";
import { chord, hold, type, watchTyping } from "./console-keys.js";

const root = document.getElementById("console");
const find = (selector) => root.querySelector(selector);
const screen = find("[data-screen]"), off = find("[data-off]"), badge = find("[data-state]"), words = find("[data-words]");
const again = find("[data-act=reconnect]"), ticketForm = find("[data-ticket]"), typing = find("[data-typing]");
const vmid = root.dataset.vmid, topic = `vm-${vmid}`;

const LONGEST_WAIT = 15, ASK_EVERY = 5000, DEAD_LIMIT = 6;
const UNREACHABLE = 1011, SIGNED_OUT = 4001, NOT_PERMITTED = 4003, IDLE = 4008, TOO_MANY = 4029;
const FINAL = { [SIGNED_OUT]: "Signed out", [NOT_PERMITTED]: "No longer permitted", [IDLE]: "Closed: nobody was watching" };

let rfb = null, connected = false, busy = false, tries = 0, dead = 0, timer = null, lastClose = null, over = false;
let viewOnly = root.dataset.viewOnly === "yes", scaled = remembered("scale") !== "no";

function remembered(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(`pvelite.console.${name}`);
    localStorage.setItem(`pvelite.console.${name}`, value);
  } catch { /* private mode: it is only not remembered */ }
  return null;
}

function say(text, tone, retry = false) {
  words.textContent = text;
  badge.className = `state state-badge console-state is-${tone}`;
  root.dataset.phase = connected ? "connected" : tone;
  again.hidden = !retry;
  const reasons = { screen: connected ? "" : "There is no screen now", input: !connected ? "There is no screen now" : viewOnly ? "View only is on" : "" };
  for (const button of root.querySelectorAll("[data-needs]")) {
    const reason = reasons[button.dataset.needs];
    if (reason) { button.setAttribute("aria-disabled", "true"); button.title = reason; }
    else { button.removeAttribute("aria-disabled"); button.removeAttribute("title"); }
  }
}

function show(stopped, status) {
  off.hidden = !stopped;
  screen.hidden = stopped;
  if (stopped && status) find("[data-off-words]").textContent = `${vmid} (${root.dataset.name}) is ${status.toLowerCase()}`;
}

/* A signed-out session answers with the login page, a lost right with 403 or 404: no JSON, no point in going on. */
async function ask(address, options) {
  const answer = await fetch(address, { credentials: "same-origin", redirect: "manual", cache: "no-store", ...options });
  if (answer.type === "opaqueredirect" || answer.status === 401) throw Object.assign(new Error(), { final: "Signed out" });
  if (answer.status === 403 || answer.status === 404) throw Object.assign(new Error(), { final: "This console may not be opened; reload the page" });
  if (!answer.ok && answer.status !== 409) throw new Error(`answer ${answer.status}`);
  return { status: answer.status, body: await answer.json() };
}

async function open() {
  if (busy || rfb || over) return;
  busy = true;
  clearInterval(timer);
  say("Connecting", "busy");
  try {
    const form = new FormData(ticketForm);
    if (viewOnly) form.set("view_only", "1");
    const { status, body } = await ask(ticketForm.action, { method: "POST", body: form });
    if (status === 409) await refused(body.error);
    else connect(body.ticket, body.path);
  } catch (error) {
    failed(error);
  } finally {
    busy = false;
  }
}

function failed(error) {
  if (error.final) { over = true; say(error.final, "error"); } else retry();
}

function connect(ticket, path) {
  show(false);
  lastClose = null;
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}${path}`, ["binary", `pvelite.ticket.${ticket}`]);
  socket.addEventListener("close", (event) => { lastClose = event; });
  const mine = rfb = new RFB(screen, socket, { shared: true });
  rfb.viewOnly = viewOnly;
  rfb.scaleViewport = scaled;
  rfb.background = "transparent";
  rfb.addEventListener("connect", () => {
    connected = true;
    tries = dead = 0;
    say(viewOnly ? "Connected, view only" : "Connected", "running");
    if (!viewOnly && (document.activeElement === document.body || root.contains(document.activeElement)) && !find("details[open]")) mine.focus({ preventScroll: true });
  });
  rfb.addEventListener("disconnect", () => {
    if (rfb !== mine) return;
    rfb = null;
    connected = false;
    ended();
  });
}

async function ended() {
  for (const button of root.querySelectorAll("[data-hold]")) button.setAttribute("aria-pressed", "false");
  const code = lastClose?.code ?? 1006;
  if (FINAL[code]) { over = code !== IDLE; say(FINAL[code], over ? "error" : "paused", !over); return; }
  if (code === TOO_MANY) { say(lastClose.reason, "paused", true); return; }
  dead = code === UNREACHABLE ? dead + 1 : 0;
  if (dead >= DEAD_LIMIT) { say("The screen does not answer", "error", true); return; }
  say("Connection lost", "busy");
  await look();
}

/* Is there a screen to open? */
async function look() {
  if (busy || rfb || over) return;
  busy = true;
  try {
    const { body } = await ask(root.dataset.stateUrl);
    if (body.running) { busy = false; retry(); } else stopped(body.words);
  } catch (error) {
    failed(error);
  } finally {
    busy = false;
  }
}

/* No ticket: it stopped in between, or it runs and shows nothing. */
async function refused(reason) {
  const { body } = await ask(root.dataset.stateUrl);
  if (body.running) say(reason, "paused", true);
  else stopped(body.words);
}

function stopped(status) {
  clearInterval(timer);
  tries = 0;
  show(true, status);
  say("Guest stopped", "stopped");
}

function retry() {
  let left = Math.min(LONGEST_WAIT, 2 ** tries++);
  clearInterval(timer);
  const tick = () => {
    if (left <= 0) { clearInterval(timer); open(); return; }
    say(`Reconnecting in ${left--} s`, "busy", true);
  };
  timer = setInterval(tick, 1000);
  tick();
}

function reopen() {
  over = false;
  tries = dead = 0;
  clearInterval(timer);
  const old = rfb;
  rfb = null;
  connected = false;
  old?.disconnect();
  open();
}

function screenshot() {
  const when = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  rfb.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `vm-${vmid}-${when}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }, "image/png");
}

const acts = {
  reconnect: reopen,
  scale: (button) => {
    scaled = !scaled;
    remembered("scale", scaled ? "yes" : "no");
    button.setAttribute("aria-pressed", scaled);
    if (rfb) rfb.scaleViewport = scaled;
  },
  fullscreen: () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen()),
  "view-only": (button) => {  // a new connection, so that the server drops the input and not this page alone
    viewOnly = !viewOnly;
    button.setAttribute("aria-pressed", viewOnly);
    if (rfb) reopen();
  },
  screenshot,
  keyboard: () => typing.focus(),
  type: async () => {
    const field = find("[data-text]"), text = field.value;
    find("[data-text-menu]").open = false;
    await type(() => (connected && !viewOnly ? rfb : null), text);
    field.value = "";
    rfb?.focus();
  },
  window: (button, event) => {
    const size = `popup,width=${Math.max(720, screen.clientWidth + 40)},height=${Math.max(560, screen.clientHeight + 100)}`;
    if (window.open(button.href, button.target, size)) event.preventDefault();
  },
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

/* In a window of its own there is no htmx to send the form in place. */
find("[data-start]")?.addEventListener("submit", async (event) => {
  if (window.htmx) return;
  event.preventDefault();
  const form = event.target;
  const answer = await fetch(form.action, { method: "POST", body: new FormData(form), headers: { "HX-Request": "true" } });
  say(answer.ok ? "Start requested" : "Not started; the VM page says why", answer.ok ? "busy" : "error");
});

/* Without this a keyboard user could never leave the screen: Tab belongs to the guest. */
screen.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey && event.altKey && event.shiftKey)) return;
  rfb?.blur();
  find("[data-act=cad]").focus();
}, true);

document.addEventListener("fullscreenchange", () => find("[data-act=fullscreen]").setAttribute("aria-pressed", document.fullscreenElement === root));
for (const name of ["pvelite:hint", "pvelite:changed"]) {
  document.addEventListener(name, (event) => {
    const topics = event.detail?.topics;
    if (connected || (topics && !topics.includes(topic))) return;
    if (off.hidden) return;  // a retry is counting already
    look();
  });
}
setInterval(() => { if (!off.hidden && !document.hidden) look(); }, ASK_EVERY);
window.addEventListener("online", () => { if (!connected && !over) reopen(); });

find("[data-act=scale]").setAttribute("aria-pressed", scaled);
watchTyping(typing, () => (connected && !viewOnly ? rfb : null));
if (root.dataset.running === "yes") open();
else say("Guest stopped", "stopped");

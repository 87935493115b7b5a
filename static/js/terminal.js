/* The serial terminal: xterm.js over the console proxy. What comes from the guest is drawn as text; no report the
   guest asks for is answered, or it could type into itself for everybody who looks. */
import "./terminal-styles.js";
import { Terminal } from "../vendor/xterm-6.0.0/lib/xterm.mjs";
import { FitAddon } from "../vendor/xterm-fit-0.11.0/addon-fit.mjs";
import { Link, remembered } from "./console-link.js";

const root = document.getElementById("console");
const find = (selector) => root.querySelector(selector);
const screen = find("[data-screen]"), fit = new FitAddon(), coder = new TextEncoder();
const SMALLEST = 8, LARGEST = 28, USUAL = 14, FRAME = 1 << 15;

function theme() {
  const style = getComputedStyle(screen), colour = (name) => style.getPropertyValue(`--terminal-${name}`).trim();
  return { background: colour("ground"), foreground: colour("text"), cursor: colour("text"), cursorAccent: colour("ground"), selectionBackground: colour("marked") };
}

const terminal = new Terminal({
  fontFamily: getComputedStyle(root).getPropertyValue("--mono"), fontSize: Number(remembered("terminal-size")) || USUAL,
  theme: theme(), scrollback: 5000, cursorBlink: false, screenReaderMode: remembered("terminal-read") === "yes",
  linkHandler: { activate: () => {} }, logLevel: "off",  // what a guest prints wrongly is no error of the page
});
terminal.loadAddon(fit);
/* Device status, attributes, modes and settings; colours; what is in the title or the clipboard. */
for (const id of [{ final: "n" }, { prefix: "?", final: "n" }, { final: "c" }, { prefix: ">", final: "c" }, { prefix: "=", final: "c" }, { intermediates: "$", final: "p" }, { prefix: "?", intermediates: "$", final: "p" }, { final: "t" }]) terminal.parser.registerCsiHandler(id, () => true);
terminal.parser.registerDcsHandler({ intermediates: "$", final: "q" }, () => true);
for (const code of [4, 10, 11, 12, 52]) terminal.parser.registerOscHandler(code, () => true);

const link = new Link(root, { noun: "terminal", connect, drop: () => { current?.close(); current = null; } });
let current = null;

function connect(socket) {
  current = socket;
  socket.binaryType = "arraybuffer";
  terminal.options.disableStdin = link.viewOnly;
  socket.addEventListener("open", () => {
    terminal.reset();  // what was printed lately comes again
    link.opened();
    refit();
    if (matchMedia("(max-width: 899px)").matches) root.scrollIntoView({ block: "end" });  // the prompt is at the bottom
    if (document.activeElement === document.body || root.contains(document.activeElement)) terminal.focus();
  });
  socket.addEventListener("message", (event) => terminal.write(new Uint8Array(event.data)));
  socket.addEventListener("close", () => link.ended(socket));
}

function send(bytes) {
  if (!link.connected || link.viewOnly || current?.readyState !== WebSocket.OPEN) return;
  for (let at = 0; at < bytes.length; at += FRAME) current.send(bytes.subarray(at, at + FRAME));
}

function refit() {
  if (screen.hidden || !screen.clientWidth) return;
  fit.fit();
  find("[data-size]").textContent = `${terminal.cols} × ${terminal.rows}`;
}

function size(step) {
  terminal.options.fontSize = Math.min(LARGEST, Math.max(SMALLEST, step ? terminal.options.fontSize + step : USUAL));
  remembered("terminal-size", terminal.options.fontSize);
  refit();
}

async function copy() {
  const text = terminal.getSelection();
  if (!text) { note("Nothing is marked"); return; }
  try {
    await navigator.clipboard.writeText(text);
    note("Copied");
  } catch { note("The browser refused: mark and press Ctrl-C there"); }
}

/* Without a secure origin the browser gives no clipboard to pages; its own paste (Ctrl-Shift-V, the menu) always works. */
async function paste() {
  try {
    terminal.paste(await navigator.clipboard.readText());
  } catch { note("The browser refused: use Ctrl-Shift-V"); }
  terminal.focus();
}

function note(text) { find("[data-note]").textContent = text; }

const acts = {
  ...link.acts(),
  copy, paste,
  smaller: () => size(-1),
  larger: () => size(1),
  clear: () => { terminal.clear(); terminal.focus(); },
  tell: () => {  // a serial line carries no size: the guest's shell has to be told
    send(coder.encode(` stty rows ${terminal.rows} cols ${terminal.cols}\r`));
    terminal.focus();
  },
};

root.addEventListener("click", (event) => {
  const button = event.target.closest("button, a");
  if (button && button.getAttribute("aria-disabled") !== "true") acts[button.dataset.act]?.(button, event);
});

/* Ctrl-C with something marked, Ctrl-Shift-C and Ctrl-Insert copy; Ctrl-V stays the guest's, Ctrl-Shift-V is the browser's. */
terminal.attachCustomKeyEventHandler((event) => {
  if (event.ctrlKey && event.altKey && event.shiftKey) { find("[data-act=copy]").focus(); return false; }
  const marked = terminal.hasSelection() && event.ctrlKey && (event.code === "KeyC" || event.code === "Insert");
  if (!marked && !(event.ctrlKey && event.shiftKey && ["KeyC", "KeyV"].includes(event.code))) return true;
  if (event.type === "keydown" && event.code !== "KeyV") { event.preventDefault(); copy(); terminal.clearSelection(); }
  return false;
});
terminal.onData((text) => send(coder.encode(text)));
terminal.onBinary((text) => send(Uint8Array.from(text, (each) => each.charCodeAt(0))));
terminal.open(screen);
new ResizeObserver(refit).observe(screen);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { terminal.options.theme = theme(); });
new MutationObserver(() => { terminal.options.theme = theme(); }).observe(document.documentElement, { attributeFilter: ["data-theme"] });
link.start();

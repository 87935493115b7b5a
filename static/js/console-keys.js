/* Keys for a guest: by the place they have on a keyboard, so that the guest's own layout decides. */
import KeyTable from "../vendor/novnc-1.7.0/core/input/keysym.js";
import keysyms from "../vendor/novnc-1.7.0/core/input/keysymdef.js";

const SYMS = {
  ControlLeft: KeyTable.XK_Control_L, AltLeft: KeyTable.XK_Alt_L, MetaLeft: KeyTable.XK_Super_L, ShiftLeft: KeyTable.XK_Shift_L,
  Delete: KeyTable.XK_Delete, Backspace: KeyTable.XK_BackSpace, Tab: KeyTable.XK_Tab, Escape: KeyTable.XK_Escape,
  Enter: KeyTable.XK_Return, PrintScreen: KeyTable.XK_Print,
};
for (let number = 1; number <= 12; number++) SYMS[`F${number}`] = KeyTable[`XK_F${number}`];
for (const letter of "abcdefghijklmnopqrstuvwxyz") SYMS[`Key${letter.toUpperCase()}`] = letter.codePointAt(0);

/* What stands on a US keyboard: character -> [code, shifted]. */
const US = new Map([["\n", ["Enter", false]], ["\r", ["Enter", false]], ["\t", ["Tab", false]], [" ", ["Space", false]]]);
const both = (code, plain, shifted) => { US.set(plain, [code, false]); US.set(shifted, [code, true]); };
for (const letter of "abcdefghijklmnopqrstuvwxyz") both(`Key${letter.toUpperCase()}`, letter, letter.toUpperCase());
[..."1234567890"].forEach((digit, index) => both(`Digit${digit}`, digit, "!@#$%^&*()"[index]));
for (const [code, pair] of Object.entries({
  Minus: "-_", Equal: "=+", BracketLeft: "[{", BracketRight: "]}", Backslash: "\\|", Semicolon: ";:", Quote: "'\"",
  Backquote: "`~", Comma: ",<", Period: ".>", Slash: "/?",
})) both(code, pair[0], pair[1]);

/* Press codes in order, let them go in reverse. */
export const chord = (rfb, codes) => {
  for (const code of codes) rfb.sendKey(SYMS[code], code, true);
  for (const code of [...codes].reverse()) rfb.sendKey(SYMS[code], code, false);
};

export const hold = (rfb, code, down) => rfb.sendKey(SYMS[code], code, down);

/* One character. What no US keyboard has goes as its symbol, for the server to place. */
export const character = (rfb, text) => {
  const known = US.get(text);
  const symbol = keysyms.lookup(text.codePointAt(0));
  if (!known) { if (symbol) rfb.sendKey(symbol, null); return; }
  const [code, shifted] = known;
  if (shifted) hold(rfb, "ShiftLeft", true);
  rfb.sendKey(SYMS[code] ?? symbol, code);
  if (shifted) hold(rfb, "ShiftLeft", false);
};

/* A phone's keyboard types into a hidden field; what changed in it is what was typed. */
export const watchTyping = (field, current) => {
  const PAD = "_".repeat(100);  // something to delete
  let before = PAD, composing = false;
  const reset = () => { field.value = before = PAD; };
  const take = () => {
    const rfb = current(), now = field.value;
    let same = 0;
    while (same < now.length && now[same] === before[same]) same++;
    if (rfb) {
      for (let gone = before.length - same; gone > 0; gone--) chord(rfb, ["Backspace"]);
      for (const each of now.slice(same)) character(rfb, each);
    }
    before = now;
    if (!composing && (now.length < 50 || now.length > 300)) reset();
  };
  field.addEventListener("input", take);
  field.addEventListener("compositionstart", () => { composing = true; });
  field.addEventListener("compositionend", () => { composing = false; });
  field.addEventListener("focus", reset);
  reset();
};

/* Texts between this page and the guest's own SPICE agent (spice-vdagent): whoever has copied says so, and gives the
   text when it is asked for. */
import { Constants } from "../vendor/spice-html5-0.2.1/enums.js";

const TEXT = 1, HEAD = 20;  // bytes of a message's head: protocol, type, eight nobody uses, size
const LARGEST = 4 << 20;    // bytes; what pages take elsewhere too
const { VD_AGENT_ANNOUNCE_CAPABILITIES: ANNOUNCE, VD_AGENT_CLIPBOARD: CONTENT, VD_AGENT_CLIPBOARD_GRAB: GRAB, VD_AGENT_CLIPBOARD_REQUEST: REQUEST } = Constants;

const number = (bytes, at) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
const body = (text = "") => {
  const letters = new TextEncoder().encode(text), bytes = new Uint8Array(4 + letters.length);
  bytes[0] = TEXT;
  bytes.set(letters, 4);
  return bytes;
};

export class Clipboard {
  /* say(type, bytes) tells the agent something; heard(text) gets what was copied in the guest. */
  constructor(say, heard) {
    Object.assign(this, { say, heard });
    this.forget();
  }

  forget() { this.parts = new Uint8Array(0); this.offered = null; this.breaks = "\n"; }

  offer(text) {
    this.offered = text;
    this.say(GRAB, body());
  }

  /* A part of what the agent says, at most 2 KiB; answers the messages that are whole now. */
  feed(data) {
    const all = new Uint8Array(this.parts.length + data.byteLength), whole = [];
    all.set(this.parts);
    all.set(new Uint8Array(data), this.parts.length);
    let at = 0;
    for (; all.length - at >= HEAD && all.length - at >= HEAD + number(all, at + 16); at += HEAD + number(all, at + 16)) {
      whole.push(all.slice(at, at + HEAD + number(all, at + 16)));
    }
    this.parts = all.slice(at);
    if (this.parts.length > LARGEST) this.parts = new Uint8Array(0);
    return whole;
  }

  /* Whether a whole message was about the clipboard. */
  took(message) {
    const type = number(message, 4), rest = message.subarray(HEAD);
    if (type === ANNOUNCE && rest.length >= 8) this.breaks = number(rest, 4) >> Constants.VD_AGENT_CAP_GUEST_LINEEND_CRLF & 1 ? "\r\n" : "\n";
    if (![CONTENT, GRAB, REQUEST, Constants.VD_AGENT_CLIPBOARD_RELEASE].includes(type)) return false;
    if (type === GRAB) {
      this.offered = null;
      for (let at = 0; at + 4 <= rest.length; at += 4) if (number(rest, at) === TEXT) this.say(REQUEST, body());
    } else if (rest.length >= 4 && number(rest, 0) === TEXT) {
      if (type === REQUEST && this.offered !== null) this.say(CONTENT, body(this.offered.replaceAll("\n", this.breaks)));
      if (type === CONTENT) this.heard(new TextDecoder().decode(rest.subarray(4)).replaceAll("\r\n", "\n"));
    }
    return true;
  }
}

/* spice-html5's client, made to fit: the ticket on every websocket, only the channels a page can show, keys by
   their place on the keyboard, and the pointer where the scaled picture is. */
import { SpiceMainConn } from "../vendor/spice-html5-0.2.1/main.js";
import { SpiceDisplayConn } from "../vendor/spice-html5-0.2.1/display.js";
import { SpiceCursorConn } from "../vendor/spice-html5-0.2.1/cursor.js";
import { SpiceInputsConn, handle_contextmenu, handle_mousedown, handle_mousemove, handle_mouseup, handle_mousewheel } from "../vendor/spice-html5-0.2.1/inputs.js";
import { Constants } from "../vendor/spice-html5-0.2.1/enums.js";
import { SpiceMiniData, SpiceMsgChannels, SpiceMsgDisplayCopyBits, SpiceMsgDisplayDrawCopy, SpiceMsgDisplayDrawFill, SpiceMsgcKeyDown, VDAgentAnnounceCapabilities } from "../vendor/spice-html5-0.2.1/spicemsg.js";
import { Clipboard } from "./spice-clipboard.js";
import { bitmap, clipped, copy } from "./spice-draw.js";
import { Holes } from "./spice-holes.js";
import { fingers } from "./spice-touch.js";
import scancodes from "../vendor/novnc-1.7.0/core/input/xtscancodes.js";

/* Without this the client offers to play VP8 and Opus in media elements, which it places by style attributes and
   feeds from blobs: our content security policy forbids both, and the server has other ways to send a picture. */
delete window.MediaSource;

const GRACE = 1000;  // ms a lost channel waits for the session's own close, which says why

/* The client dials by itself, once a channel, and offers the subprotocol "binary" only. */
let ticket = "";
const Plain = window.WebSocket;
window.WebSocket = class extends Plain {
  constructor(address, protocols) {
    super(address, protocols === "binary" && ticket ? ["binary", `pvelite.ticket.${ticket}`] : protocols);
  }
};

/* A set of scan codes as SPICE takes it: the bytes a PS/2 keyboard would send, lowest first. */
function scan(code, down) {
  const known = scancodes[code];
  if (!known) return 0;
  const last = (known & 0xff) | (down ? 0 : 0x80);
  return known > 0xff ? 0xe0 | (last << 8) : last;
}

class Display extends SpiceDisplayConn {
  cache = {};

  process_channel_message(msg) {
    const known = this.drawn(msg) || super.process_channel_message(msg);
    this.holes?.heard(msg);
    return known;
  }

  /* Whether it was something the client itself does not draw as it should be. */
  drawn(msg) {
    if (msg.type === Constants.SPICE_MSG_DISPLAY_DRAW_COPY) {
      const { base, data } = new SpiceMsgDisplayDrawCopy(msg.data), picture = data.src_bitmap;
      const image = picture?.descriptor.type === Constants.SPICE_IMAGE_TYPE_BITMAP && picture.bitmap && bitmap(picture.bitmap);
      if (!image) return false;
      const alpha = picture.bitmap.format === Constants.SPICE_BITMAP_FMT_RGBA;
      return this.draw_copy_helper({ base, src_area: data.src_area, image_data: image, has_alpha: alpha, descriptor: picture.descriptor });
    }
    if (msg.type === Constants.SPICE_MSG_DISPLAY_COPY_BITS) {
      const { base, src_pos } = new SpiceMsgDisplayCopyBits(msg.data), { context } = this.surfaces[base.surface_id].canvas;
      const right = base.box.right - base.box.left, bottom = base.box.bottom - base.box.top;
      copy(context, context.getImageData(src_pos.x, src_pos.y, right, bottom), base, { left: 0, top: 0, right, bottom }, true);
      return true;
    }
    if (msg.type !== Constants.SPICE_MSG_DISPLAY_DRAW_FILL) return false;
    const { base } = new SpiceMsgDisplayDrawFill(msg.data);
    clipped(this.surfaces[base.surface_id].canvas.context, base, () => super.process_channel_message(msg));
    return true;
  }

  /* Instead of the client's own, which takes a picture as a whole. */
  draw_copy_helper({ base, src_area, image_data, has_alpha, descriptor }) {
    const surface = this.surfaces[base.surface_id], opaque = !has_alpha || surface.format === Constants.SPICE_SURFACE_FMT_32_xRGB;
    if (has_alpha && opaque) for (let at = 3; at < image_data.data.length; at += 4) image_data.data[at] = 255;
    copy(surface.canvas.context, image_data, base, src_area, opaque);
    if (descriptor.flags & Constants.SPICE_IMAGE_FLAGS_CACHE_ME) this.cache[descriptor.id] = image_data;
    surface.draw_count++;
    return true;
  }

  /* Instead of the client's own, which take the focus from whatever the pointer passes over. */
  hook_events() {
    const canvas = this.surfaces[this.primary_surface].canvas;
    canvas.sc = this.parent;
    canvas.addEventListener("mousemove", (event) => handle_mousemove.call(canvas, within(canvas, event)));
    canvas.addEventListener("mousedown", (event) => { handle_mousedown.call(canvas, event); canvas.focus({ preventScroll: true }); });
    canvas.addEventListener("mouseup", handle_mouseup);
    canvas.addEventListener("contextmenu", handle_contextmenu);
    canvas.addEventListener("wheel", handle_mousewheel, { passive: false });
    const event = (more) => ({ preventDefault: () => {}, ...more });
    fingers(canvas, {
      move: (place) => handle_mousemove.call(canvas, within(canvas, event(place))),
      press: (button) => handle_mousedown.call(canvas, event({ button })),
      release: (button) => handle_mouseup.call(canvas, event({ button })),
      wheel: (up) => handle_mousewheel.call(canvas, event({ deltaY: up ? -1 : 1 })),
    }, this.parent.scaled);
    this.holes = new Holes(canvas);
    this.parent.shown(canvas, this.holes);
  }

  unhook_events() { this.holes = null; }
}

/* Where on the guest's screen an event is: the picture is scaled and centred in its element. */
function within(canvas, event) {
  const box = canvas.getBoundingClientRect();
  const ratio = Math.min(box.width / canvas.width, box.height / canvas.height);
  const place = (at, whole, pixels) => Math.max(0, Math.min(pixels - 1, Math.round((at - (whole - pixels * ratio) / 2) / ratio)));
  return {
    offsetX: place(event.clientX - box.left, box.width, canvas.width),
    offsetY: place(event.clientY - box.top, box.height, canvas.height),
    pageX: event.pageX, pageY: event.pageY, preventDefault: () => event.preventDefault(),
  };
}

export class Screen extends SpiceMainConn {
  /* `shown` gets every new primary surface's canvas, and what is missing on it; `gone` is called once, when the session has ended, with its
     websocket and the close event if there was one (the client's own listener hears of it first and knows no code). */
  constructor({ uri, token, screen, scaled, shown, pointed, copied, lost, gone }) {
    ticket = token;
    super({ uri, password: "", screen_id: screen, onerror: () => setTimeout(() => this.finish()), onsuccess: () => {} });
    Object.assign(this, { scaled, shown, pointed, lost, gone, held: new Set() });
    this.clipboard = new Clipboard((type, bytes) => this.send_agent_message(type, {
      buffer_size: () => bytes.length,
      to_buffer: (whole, at = 0) => new Uint8Array(whole).set(bytes, at),
    }), copied);
    this.ws.addEventListener("close", (event) => this.finish(event));
  }

  process_channel_message(msg) {
    if (msg.type === Constants.SPICE_MSG_MAIN_AGENT_DATA) {
      for (const data of this.clipboard.feed(msg.data)) if (!this.clipboard.took(data)) super.process_channel_message({ type: msg.type, data: data.buffer });
      return true;
    }
    if (msg.type === Constants.SPICE_MSG_MAIN_AGENT_DISCONNECTED) this.clipboard.forget();
    if (msg.type !== Constants.SPICE_MSG_MAIN_CHANNELS_LIST) return super.process_channel_message(msg);
    for (const { type, id } of new SpiceMsgChannels(msg.data).channels) {
      const channel = { uri: this.ws.url, parent: this, connection_id: this.connection_id, type, chan_id: id, onerror: () => setTimeout(() => this.finish(), GRACE) };
      if (type === Constants.SPICE_CHANNEL_DISPLAY && id === 0) this.display = new Display(channel);
      else if (type === Constants.SPICE_CHANNEL_CURSOR && id === 0) this.cursor = new SpiceCursorConn(channel);
      else if (type === Constants.SPICE_CHANNEL_INPUTS) {
        this.inputs = new SpiceInputsConn(channel);
        this.inputs.mouse_mode = this.mouse_mode;
      }
    }
    return true;
  }

  /* What the client says it can, and the clipboard's texts. */
  announce_agent_capabilities(request) {
    const able = [Constants.VD_AGENT_CAP_MOUSE_STATE, Constants.VD_AGENT_CAP_MONITORS_CONFIG, Constants.VD_AGENT_CAP_REPLY, Constants.VD_AGENT_CAP_CLIPBOARD_BY_DEMAND];
    this.send_agent_message(Constants.VD_AGENT_ANNOUNCE_CAPABILITIES, new VDAgentAnnounceCapabilities(request, able.reduce((bits, each) => bits | 1 << each, 0)));
  }

  handle_mouse_mode(current, supported) {
    super.handle_mouse_mode(current, supported);
    this.pointed(current === Constants.SPICE_MOUSE_MODE_CLIENT);
  }

  clipboardPasteFrom(text) { this.clipboard.offer(text); }

  /* A key of the keyboard here. */
  key(code, down) {
    if (!this.send(code, down)) return false;
    if (down) this.held.add(code); else this.held.delete(code);
    return true;
  }

  /* A key as noVNC's connection takes it, by its place; both down and up where `down` is not given. What has none
     here cannot be sent: SPICE knows places only. */
  sendKey(_symbol, code, down) {
    if (!code) { this.lost(); return; }
    if (down !== false) this.send(code, true);
    if (down !== true) this.send(code, false);
  }

  send(code, down) {
    const value = scan(code, down);
    if (!value || this.inputs?.state !== "ready") return false;
    const key = new SpiceMsgcKeyDown(), message = new SpiceMiniData();
    key.code = value;
    message.build_msg(down ? Constants.SPICE_MSGC_INPUTS_KEY_DOWN : Constants.SPICE_MSGC_INPUTS_KEY_UP, key);
    this.inputs.send_msg(message);
    return true;
  }

  /* Nothing stays pressed in the guest when the keyboard goes elsewhere. */
  release() {
    for (const code of this.held) this.key(code, false);
  }

  finish(event = null) {
    if (this.finished) return;
    this.finished = true;
    const { ws, gone } = this;
    this.stop();
    gone(ws, event);
  }
}

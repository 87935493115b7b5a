/* A qxl card that is reset makes QEMU begin a new SPICE screen, but not forget what it has sent to the old one: what
   the guest then draws as it was before is never sent, to nobody, until it changes. A pixel that was drawn since is
   right. The others are holes, and have stood still since: any look at QEMU's own picture has them as they are. */
import { Constants } from "../vendor/spice-html5-0.2.1/enums.js";

const { SPICE_MSG_DISPLAY_COPY_BITS: COPY_BITS, SPICE_MSG_DISPLAY_DRAW_FILL: FIRST, SPICE_MSG_DISPLAY_DRAW_COMPOSITE: LAST } = Constants;
const BASE = 21;  // bytes: the surface's number, then top, left, bottom and right, and how it is clipped

export class Holes {
  constructor(canvas) {
    this.canvas = canvas;
    this.mask = new Uint8Array(canvas.width * canvas.height).fill(1);
    this.untouched = true;
    this.filled = false;  // once at least
  }

  /* A message about the screen, after it was carried out. */
  heard(msg) {
    if (msg.type === Constants.SPICE_MSG_DISPLAY_STREAM_CREATE) this.mask.fill(0);  // no text mode has films
    const draws = msg.type === COPY_BITS || (msg.type >= FIRST && msg.type < Constants.SPICE_MSG_DISPLAY_SURFACE_CREATE) || msg.type === LAST;
    if (!draws || msg.data.byteLength < BASE) return;
    const numbers = (at, count) => [...new Uint32Array(msg.data.slice(at, at + 4 * count))];
    const [surface, ...box] = numbers(0, 5), [top, left, bottom, right] = box;
    if (surface !== 0) return;
    const clip = new Uint8Array(msg.data)[BASE - 1] === Constants.SPICE_CLIP_TYPE_RECTS ? numbers(BASE + 4, 4 * numbers(BASE, 1)[0]) : box;
    const { width, height } = this.canvas;
    if (this.untouched && !left && !top && right === width && bottom === height) this.begin();
    else for (let at = 0; at < clip.length; at += 4) this.close(...clip.slice(at, at + 4));
    this.untouched = false;
  }

  close(top, left, bottom, right) {
    const { width, height } = this.canvas;
    for (let row = top; row < Math.min(bottom, height); row++) this.mask.fill(0, row * width + left, row * width + Math.min(right, width));
  }

  /* What a new viewer is sent first is all of the server's screen. Nothing that is missing there is another colour than black. */
  begin() {
    const { data } = this.canvas.getContext("2d").getImageData(0, 0, this.canvas.width, this.canvas.height);
    for (let at = 0; at < this.mask.length; at++) this.mask[at] = data[4 * at] || data[4 * at + 1] || data[4 * at + 2] ? 0 : 1;
  }

  /* Fill what is still a hole from `picture` (width, height, pixels of four bytes). */
  fill(picture) {
    const { width, height } = this.canvas, context = this.canvas.getContext("2d");
    if (picture.width !== width || picture.height !== height) return;
    const image = context.getImageData(0, 0, width, height), { data } = image;
    for (let at = 0; at < this.mask.length; at++) {
      if (!this.mask[at]) continue;
      data.set(picture.pixels.subarray(4 * at, 4 * at + 3), 4 * at);
      data[4 * at + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    this.filled = true;
  }
}

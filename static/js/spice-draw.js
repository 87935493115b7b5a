/* What spice-html5 leaves out where a guest's own driver draws: rows longer than their picture is wide, a part of a
   picture, another size, and clipping. */
import { Constants } from "../vendor/spice-html5-0.2.1/enums.js";

/* An uncompressed picture, or null where its format is another than four bytes a pixel. */
export function bitmap({ format, flags, x: width, y: height, stride, data }) {
  if (format !== Constants.SPICE_BITMAP_FMT_32BIT && format !== Constants.SPICE_BITMAP_FMT_RGBA) return null;
  const from = new Uint8Array(data), image = new ImageData(width, height), to = image.data;
  for (let row = 0; row < height; row++) {
    let at = (flags & Constants.SPICE_BITMAP_FLAGS_TOP_DOWN ? row : height - 1 - row) * stride;
    for (let pixel = 4 * row * width; pixel < 4 * (row + 1) * width; pixel += 4, at += 4) {
      to[pixel] = from[at + 2];
      to[pixel + 1] = from[at + 1];
      to[pixel + 2] = from[at];
      to[pixel + 3] = format === Constants.SPICE_BITMAP_FMT_RGBA ? from[at + 3] : 255;
    }
  }
  return image;
}

/* The parts of `box` a message may draw on. */
function parts({ box, clip }) {
  const rects = clip.type === Constants.SPICE_CLIP_TYPE_RECTS ? clip.rects.rects ?? [] : [box];
  const cut = rects.map((rect) => ({
    left: Math.max(rect.left, box.left), top: Math.max(rect.top, box.top),
    right: Math.min(rect.right, box.right), bottom: Math.min(rect.bottom, box.bottom),
  }));
  return cut.filter(({ left, top, right, bottom }) => left < right && top < bottom);
}

/* Do `draw` with the canvas clipped as the message says. */
export function clipped(context, base, draw) {
  context.save();
  context.beginPath();
  for (const { left, top, right, bottom } of parts(base)) context.rect(left, top, right - left, bottom - top);
  context.clip();
  draw();
  context.restore();
}

/* Put the area `from` of a picture where `base` says; `opaque`: what was there before does not show through. */
export function copy(context, image, base, from, opaque) {
  const { box } = base, width = from.right - from.left, height = from.bottom - from.top;
  if (opaque && width === box.right - box.left && height === box.bottom - box.top) {
    const x = box.left - from.left, y = box.top - from.top;
    for (const { left, top, right, bottom } of parts(base)) context.putImageData(image, x, y, left - x, top - y, right - left, bottom - top);
    return;
  }
  const whole = new OffscreenCanvas(image.width, image.height);
  whole.getContext("2d").putImageData(image, 0, 0);
  clipped(context, base, () => context.drawImage(whole, from.left, from.top, width, height, box.left, box.top, box.right - box.left, box.bottom - box.top));
}

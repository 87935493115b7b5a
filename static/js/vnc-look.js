/* Looks at a guest's screen over VNC (RFC 6143): whole pictures, and nothing else. Sends no key and no pointer. */
import Inflate from "../vendor/novnc-1.7.0/core/inflator.js";

const FRAME = 0, BELL = 2, CUT_TEXT = 3, RAW = 0, ZLIB = 6, PIXEL = 4;
const LARGEST = 6144;  // pixels a side

/* read(size): the next bytes of the socket; rejects once it has ended. */
function reader(socket) {
  let held = new Uint8Array(0), wanted = null, over = false;
  const serve = () => {
    if (!wanted) return;
    const { size, done, fail } = wanted;
    if (held.length < size && !over) return;
    wanted = null;
    if (held.length < size) { fail(new Error("the look has ended")); return; }
    done(held.slice(0, size));
    held = held.subarray(size);
  };
  socket.addEventListener("message", ({ data }) => {
    const more = new Uint8Array(held.length + data.byteLength);
    more.set(held);
    more.set(new Uint8Array(data), held.length);
    held = more;
    serve();
  });
  socket.addEventListener("close", () => { over = true; serve(); });
  return (size) => new Promise((done, fail) => { wanted = { size, done, fail }; serve(); });
}

const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset);

async function greet(socket, read) {
  await read(12);
  socket.send(new TextEncoder().encode("RFB 003.008\n"));
  await read((await read(1))[0]);
  socket.send(Uint8Array.of(1));  // no password: the ticket was it
  if (view(await read(4)).getUint32(0)) throw new Error("refused");
  socket.send(Uint8Array.of(1));  // beside others
  const start = view(await read(24)), width = start.getUint16(0), height = start.getUint16(2);
  if (width > LARGEST || height > LARGEST) throw new Error("no screen of ours");
  await read(start.getUint32(20));
  socket.send(Uint8Array.of(0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0));  // red, green, blue, nothing
  socket.send(Uint8Array.of(2, 0, 0, 1, 0, 0, 0, ZLIB));
  return { width, height, pixels: new Uint8Array(width * height * PIXEL) };
}

/* One rectangle into the picture; its number of pixels. */
async function rectangle(read, picture, inflate) {
  const head = view(await read(12));
  const [x, y, width, height] = [0, 2, 4, 6].map((at) => head.getUint16(at)), kind = head.getInt32(8);
  if ((kind !== RAW && kind !== ZLIB) || x + width > picture.width || y + height > picture.height) throw new Error("not understood");
  let pixels;
  if (kind === RAW) pixels = await read(width * height * PIXEL);
  else {
    inflate.setInput(await read(view(await read(4)).getUint32(0)));
    pixels = inflate.inflate(width * height * PIXEL);
    inflate.setInput(null);
  }
  for (let row = 0; row < height; row++) {
    picture.pixels.set(pixels.subarray(row * width * PIXEL, (row + 1) * width * PIXEL), ((y + row) * picture.width + x) * PIXEL);
  }
  return width * height;
}

async function whole(socket, read, picture, inflate) {
  const ask = new DataView(new ArrayBuffer(10));
  ask.setUint8(0, 3);
  ask.setUint16(6, picture.width);
  ask.setUint16(8, picture.height);
  socket.send(ask);
  for (let missing = picture.width * picture.height; missing > 0;) {
    const kind = (await read(1))[0];
    if (kind === CUT_TEXT) await read(view(await read(7)).getUint32(3));
    else if (kind === FRAME) {
      for (let left = view(await read(3)).getUint16(1); left > 0; left--) missing -= await rectangle(read, picture, inflate);
    } else if (kind !== BELL) throw new Error("not understood");
  }
}

/* Take a picture after each pause (ms) and give it to `seen`. Rejects when that cannot be, or the socket is closed. */
export async function look(socket, pauses, seen) {
  socket.binaryType = "arraybuffer";
  const read = reader(socket), inflate = new Inflate();
  try {
    const picture = await greet(socket, read);
    for (const pause of pauses) {
      await new Promise((done) => setTimeout(done, pause));
      await whole(socket, read, picture, inflate);
      seen(picture);
    }
  } finally {
    socket.close();
  }
}

// Just enough PNG for tests: writes 8 and 16 bit pictures, reads 8 bit grey, RGB and RGBA ones.

import { deflateSync, inflateSync } from "node:zlib";

const SAMPLES = { 0: 1, 2: 3, 4: 2, 6: 4 };

function crc(bytes) {
  let value = ~0;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  }
  return ~value >>> 0;
}

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc(body));
  return Buffer.concat([length, body, sum]);
}

/** A PNG file; `sample(x, y, channel)` gives each value. `colour` is the format's own colour type. */
export function encode(width, height, { bits = 8, colour = 0 }, sample) {
  const [samples, bytes] = [SAMPLES[colour], bits / 8];
  const stride = 1 + width * samples * bytes;
  const raw = Buffer.alloc(height * stride);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < samples; c++) {
        raw.writeUIntBE(sample(x, y, c), y * stride + 1 + (x * samples + c) * bytes, bytes);
      }
    }
  }
  return pack(width, height, { bits, colour }, raw);
}

/** A PNG file of rows that each begin with their filter. */
export function pack(width, height, { bits = 8, colour = 0 }, raw) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([bits, colour], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", deflateSync(raw)), chunk("IEND", Buffer.alloc(0))]);
}

/** Size, depth and bytes of a PNG file without interlacing, row by row. */
export function decode(file) {
  const data = [];
  let header;
  for (let at = 8; at < file.length; at += 12 + file.readUInt32BE(at)) {
    const body = file.subarray(at + 8, at + 8 + file.readUInt32BE(at));
    const type = file.toString("latin1", at + 4, at + 8);
    if (type === "IHDR") header = body;
    if (type === "IDAT") data.push(body);
  }
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const [bits, colour] = [header[8], header[9]];
  const step = (SAMPLES[colour] * bits) / 8;
  const raw = inflateSync(Buffer.concat(data));
  const stride = width * step;
  const bytes = Buffer.alloc(height * stride);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)];
    for (let x = 0; x < stride; x++) {
      const left = x < step ? 0 : bytes[y * stride + x - step];
      const up = y === 0 ? 0 : bytes[(y - 1) * stride + x];
      const corner = x < step || y === 0 ? 0 : bytes[(y - 1) * stride + x - step];
      bytes[y * stride + x] = raw[y * (stride + 1) + 1 + x] + predict(filter, left, up, corner);
    }
  }
  return { width, height, bits, colour, bytes };
}

function predict(filter, left, up, corner) {
  if (filter === 4) {
    const guess = left + up - corner;
    const [a, b, c] = [left, up, corner].map((value) => Math.abs(guess - value));
    return a <= b && a <= c ? left : b <= c ? up : corner;
  }
  return [0, left, up, (left + up) >> 1][filter];
}

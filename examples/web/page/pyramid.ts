/**
 * A picture made ready for drawing at any scale without holding the page up.
 *
 * A browser draws a small picture as it is. Of a large one, the canvas alone (64 MB for 4096x4096) and the mean over all its
 * pixels that a fitted view shows would hold the page for most of a second. So that one is halved beforehand, again and again,
 * in slices of a few milliseconds, and drawn in tiles from the level that fits the scale; only tiles in sight have a canvas.
 */

/** A full HD frame is drawn as it is. */
const SMALL_PIXELS = 1 << 21;
/** Side of a tile in pixels of its level. Each has a frame of its neighbours' pixels, so that tiles meet without a seam. */
const TILE = 512;
const FRAME = 1;
/** Canvases that a picture keeps, if it does not need more to be drawn once. */
const KEPT_TILES = 128;
/** Milliseconds that may go by before the page gets its turn: a slice of halving, and new tiles in one frame. */
const SLICE_MS = 8;
const TILES_MS = 20;

/** Where a picture is drawn: its corner, and the canvas pixels for one of its own. */
export interface Place {
  x: number;
  y: number;
  scale: number;
}

/** A part of the canvas, in whole pixels. */
export interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export class Pyramid {
  readonly image: ImageData;
  readonly #levels: ImageData[];
  readonly #tiles = new Map<string, HTMLCanvasElement>();
  #built: boolean;
  /** Canvases that were drawn for the current frame. */
  #drawn = 0;

  constructor(image: ImageData) {
    this.image = image;
    this.#levels = [image];
    this.#built = image.width * image.height <= SMALL_PIXELS;
  }

  /** Whether it can be drawn. */
  get built(): boolean {
    return this.#built;
  }

  /** Prepares it, in slices between which the page is free. */
  async build(): Promise<void> {
    if (this.#built) return;
    let from = this.image;
    while (Math.max(from.width, from.height) > TILE) {
      const to = new ImageData(Math.ceil(from.width / 2), Math.ceil(from.height / 2));
      let until = performance.now() + SLICE_MS;
      for (let row = 0; row < to.height; row++) {
        halveRow(from, to, row);
        if (performance.now() < until) continue;
        await turn();
        until = performance.now() + SLICE_MS;
      }
      this.#levels.push(to);
      from = to;
    }
    this.#built = true;
  }

  /** Draws what of it lies in `box`. False if some of that is coarse for now, for the sake of the page: to be drawn again. */
  draw(context: CanvasRenderingContext2D, place: Place, box: Box): boolean {
    const { width, height } = this.image;
    context.imageSmoothingQuality = "high";
    if (this.#levels.length === 1) {
      context.drawImage(this.#canvas(0, 0, 0, width, height), place.x, place.y, width * place.scale, height * place.scale);
      return true;
    }
    // The smallest that is not enlarged; what a browser would take, and make, itself.
    const coarsest = this.#levels.length - 1;
    const level = Math.min(Math.max(Math.floor(1e-6 - Math.log2(place.scale)), 0), coarsest);
    if (place.scale < 1) context.imageSmoothingQuality = "low";
    this.#drawn = 0;
    const until = performance.now() + TILES_MS;
    const fine = this.#paint(context, level, place, box, () => level === coarsest || performance.now() < until);
    for (const key of this.#tiles.keys()) {
      if (this.#tiles.size <= Math.max(KEPT_TILES, this.#drawn)) break;
      this.#tiles.delete(key);
    }
    return fine;
  }

  #paint(context: CanvasRenderingContext2D, level: number, place: Place, box: Box, mayMake: () => boolean): boolean {
    const { width, height } = this.#levels[level] as ImageData;
    const scale = place.scale * 2 ** level;
    let fine = true;
    // Canvas pixels of a tile's edges; the same number for both its sides. A level's last pixel may be half outside.
    const [endX, endY] = [place.x + this.image.width * place.scale, place.y + this.image.height * place.scale];
    const acrossAt = (x: number) => Math.round(Math.min(place.x + x * scale, endX));
    const downAt = (y: number) => Math.round(Math.min(place.y + y * scale, endY));
    for (let top = 0; top < height; top += TILE) {
      const [boxTop, boxBottom] = [Math.max(downAt(top), box.top), Math.min(downAt(Math.min(top + TILE, height)), box.bottom)];
      if (boxTop >= boxBottom) continue;
      for (let left = 0; left < width; left += TILE) {
        const [boxLeft, boxRight] = [Math.max(acrossAt(left), box.left), Math.min(acrossAt(Math.min(left + TILE, width)), box.right)];
        if (boxLeft >= boxRight) continue;
        if (!this.#tiles.has(`${level}/${left}/${top}`) && !mayMake()) {
          fine = false;
          const part = { left: boxLeft, top: boxTop, right: boxRight, bottom: boxBottom };
          this.#paint(context, this.#levels.length - 1, place, part, () => true);
          continue;
        }
        const [fromX, fromY] = [Math.max(left - FRAME, 0), Math.max(top - FRAME, 0)];
        const [toX, toY] = [Math.min(left + TILE + FRAME, width), Math.min(top + TILE + FRAME, height)];
        const tile = this.#canvas(level, left, top, toX - fromX, toY - fromY, fromX, fromY);
        context.save();
        context.beginPath();
        context.rect(boxLeft, boxTop, boxRight - boxLeft, boxBottom - boxTop);
        context.clip();
        context.drawImage(tile, place.x + fromX * scale, place.y + fromY * scale, tile.width * scale, tile.height * scale);
        context.restore();
      }
    }
    return fine;
  }

  #canvas(level: number, left: number, top: number, width: number, height: number, fromX = left, fromY = top): HTMLCanvasElement {
    const key = `${level}/${left}/${top}`;
    let canvas = this.#tiles.get(key);
    if (!canvas) {
      canvas = Object.assign(document.createElement("canvas"), { width, height });
      canvas.getContext("2d")?.putImageData(this.#levels[level] as ImageData, -fromX, -fromY, fromX, fromY, width, height);
    }
    // Last in the order of the map.
    this.#tiles.delete(key);
    this.#tiles.set(key, canvas);
    this.#drawn += 1;
    return canvas;
  }
}

/** The page's turn; unlike a timer, no browser delays it. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

const words = new WeakMap<ImageData, Uint32Array>();

function pixels(image: ImageData): Uint32Array {
  let found = words.get(image);
  if (!found) words.set(image, (found = new Uint32Array(image.data.buffer, image.data.byteOffset, image.data.byteLength / 4)));
  return found;
}

/** Writes a row of a picture of half the size: means of two by two pixels, rounded, colours weighted by their alpha. */
export function halveRow(from: ImageData, to: ImageData, row: number): void {
  const [source, target] = [pixels(from), pixels(to)];
  const upper = 2 * row * from.width;
  const lower = Math.min(2 * row + 1, from.height - 1) * from.width;
  const last = from.width - 1;
  for (let column = 0; column < to.width; column++) {
    const [left, right] = [2 * column, Math.min(2 * column + 1, last)];
    target[row * to.width + column] = mean(
      source[upper + left] as number,
      source[upper + right] as number,
      source[lower + left] as number,
      source[lower + right] as number,
    );
  }
}

/** Red and blue, or green and alpha, of a pixel in one word: sums of four do not run into each other. */
const PAIR = 0x00ff00ff;
const HALF = 0x00020002;

function mean(a: number, b: number, c: number, d: number): number {
  if ((a & b & c & d) >>> 24 !== 255) return weightedMean([a, b, c, d]);
  const even = (((a & PAIR) + (b & PAIR) + (c & PAIR) + (d & PAIR) + HALF) >>> 2) & PAIR;
  const odd = (((a >>> 8) & PAIR) + ((b >>> 8) & PAIR) + ((c >>> 8) & PAIR) + ((d >>> 8) & PAIR) + HALF) >>> 2;
  return even | ((odd & PAIR) << 8);
}

function weightedMean(four: number[]): number {
  let sum = 0;
  const sums = [0, 0, 0];
  for (const pixel of four) {
    const alpha = pixel >>> 24;
    sum += alpha;
    sums.forEach((old, channel) => (sums[channel] = old + alpha * ((pixel >>> (8 * channel)) & 255)));
  }
  const [red, green, blue] = sums.map((value) => (sum ? Math.round(value / sum) : 0)) as [number, number, number];
  return red | (green << 8) | (blue << 16) | (Math.round(sum / 4) << 24);
}

/**
 * sonolume in a web page: `loadEnhancer()`, then `enhancer.enhance(image)`.
 *
 * A worker does the work, on WebGPU or on the CPU, so that the page never waits. Not a medical device.
 */

import type { FromWorker, Loaded, Replies, Request } from "./protocol.js";

/** The device that does the work. */
export interface DeviceInfo {
  /** `software` is a WebGPU adapter that computes on the processor. */
  kind: "gpu" | "software" | "cpu";
  /** For people. */
  name: string;
  /** Whether WebGPU offers 16-bit floats here. */
  f16: boolean;
  /** Why the GPU was not taken, where it was wished for. */
  reason?: string;
}

/** The generator. */
export interface ModelInfo {
  name: string;
  architecture: string;
  /** Its hyper-parameters. */
  details: string;
  /** SHA-256 of the weights file, in hexadecimal. */
  sha256: string;
  /** Channels that it sees: 1 for grey, 3 for colour. */
  channels: number;
}

/** What was done. */
export interface Report {
  device: DeviceInfo;
  /** How activations were stored. */
  precision: "f32" | "f16";
  model: string;
  modelSha256: string;
  tiles: number;
  tileWidth: number;
  tileHeight: number;
  activationBytes: number;
  /** The generator with its transfers, milliseconds. */
  generatorMs: number;
  totalMs: number;
}

/** What can be enhanced. Of a `Blob` (PNG, JPEG, TIFF, BMP, WebP), 16 bits, alpha and colour profile are kept. */
export type Source = ImageData | ImageBitmap | VideoFrame | Blob;

export interface LoadOptions {
  /** `auto` takes the GPU, or the CPU if there is none but a software adapter; `webgpu` takes that one too. */
  device?: "auto" | "webgpu" | "cpu";
  /** A safetensors file; without one, the built-in `sonolume-s`. */
  weights?: Blob | ArrayBuffer | ArrayBufferView<ArrayBuffer>;
  /** What reports call the weights. */
  name?: string;
  /** Device memory for activations, bytes; larger images run in tiles. 512 MiB if not said. */
  memoryLimit?: number;
  /** Store 16-bit floats where WebGPU offers them: half the memory traffic, about one grey level of error. */
  half?: boolean;
}

export interface RunOptions {
  /** Rejects the promise with the signal's reason at once, and stops the worker after the current tile. */
  signal?: AbortSignal;
  /** Called after every tile with the share that is done, up to 1. */
  onProgress?: (share: number) => void;
}

export interface EnhanceOptions extends RunOptions {
  /** Share of the generator's answer in the result, 0 (the input, bit for bit) to 1, the default. */
  strength?: number;
}

/** An enhanced image. */
export interface Enhanced {
  image: ImageData;
  report: Report;
}

export interface FrameOptions extends EnhanceOptions {
  /** Also say what changed. */
  difference?: boolean;
}

/** An enhanced frame with the frame that it was made of. */
export interface EnhancedFrame extends Enhanced {
  before: ImageData;
  /** As `Answer.difference`, if it was asked for. */
  difference: ImageData | null;
}

/**
 * What went wrong; `name` says who can act: `ImageError`, `WeightsError`, `OptionsError`, `DeviceError`, `MemoryError`, or
 * `CrashError`, after which the enhancer is closed.
 */
export class SonolumeError extends Error {
  constructor(name: string, message: string) {
    super(message);
    this.name = name;
  }
}

interface Waiting {
  resolve(reply: Replies[keyof Replies]): void;
  reject(reason: unknown): void;
  progress: ((share: number) => void) | undefined;
}

/** Numbers requests to the worker and hands its answers out. */
class Link {
  readonly #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "sonolume" });
  readonly #waiting = new Map<number, Waiting>();
  #last = 0;
  #closed: SonolumeError | undefined;

  constructor() {
    this.#worker.onmessage = (event: MessageEvent<FromWorker>) => this.#receive(event.data);
    // A trap in an asynchronous call answers no request; the module cannot be used any more.
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.close(crash(event.message));
    };
  }

  send<M extends Request["method"]>(
    request: Extract<Request, { method: M }>,
    options: RunOptions = {},
    transfer: Transferable[] = [],
  ): Promise<Replies[M]> {
    const { signal, onProgress } = options;
    if (this.#closed) return Promise.reject(this.#closed);
    if (signal?.aborted) return Promise.reject(signal.reason);
    const id = ++this.#last;
    return new Promise<Replies[M]>((resolve, reject) => {
      const abort = () => {
        this.#waiting.delete(id);
        this.#worker.postMessage({ stop: id });
        reject(signal?.reason);
      };
      const done = () => signal?.removeEventListener("abort", abort);
      this.#waiting.set(id, {
        resolve: (reply) => (done(), resolve(reply as Replies[M])),
        reject: (reason) => (done(), reject(reason)),
        progress: onProgress,
      });
      signal?.addEventListener("abort", abort, { once: true });
      this.#worker.postMessage({ id, ...request }, transfer);
    });
  }

  close(reason = new SonolumeError("OptionsError", "the enhancer is closed")): void {
    this.#closed ??= reason;
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(reason);
    this.#waiting.clear();
  }

  #receive(message: FromWorker): void {
    const waiting = this.#waiting.get(message.id);
    if ("progress" in message) {
      waiting?.progress?.(message.progress);
    } else if ("error" in message) {
      const { name, message: text } = message.error;
      if (name === "CrashError") return this.close(crash(text));
      const error = new SonolumeError(name, text);
      this.#waiting.delete(message.id);
      waiting?.reject(error);
    } else if (waiting) {
      this.#waiting.delete(message.id);
      waiting.resolve(message.reply);
    } else if (message.reply && ("result" in message.reply || "picture" in message.reply)) {
      // Whoever asked for it gave up meanwhile.
      const object = "result" in message.reply ? message.reply.result : message.reply.picture;
      this.send({ method: "close", object }).catch(() => undefined);
    }
  }
}

/** A panic and an allocation that failed end the module alike; the console has the panic's text. */
function crash(cause: string): SonolumeError {
  const told = cause ? ` (${cause})` : "";
  return new SonolumeError("CrashError", `the worker stopped, most likely because the picture is too large for its memory${told}`);
}

function image(samples: Uint8Array<ArrayBuffer>, width: number, height: number): ImageData {
  return new ImageData(new Uint8ClampedArray(samples.buffer), width, height);
}

/** A generator's answer to a picture; blends at any strength without another run. */
class Answer {
  readonly width: number;
  readonly height: number;
  readonly report: Report;
  readonly #link: Link;
  readonly #id: number;

  constructor(link: Link, { result, width, height, report }: Replies["enhance"]) {
    this.#link = link;
    this.#id = result;
    this.width = width;
    this.height = height;
    this.report = report;
  }

  /** The picture with the answer at `strength`. */
  async image(strength = 1): Promise<ImageData> {
    const samples = await this.#link.send<"image">({ method: "image", result: this.#id, strength });
    return image(samples, this.width, this.height);
  }

  /** What changes at `strength`: grey where nothing does, brighter and darker where the result is. */
  async difference(strength = 1): Promise<ImageData> {
    const samples = await this.#link.send<"difference">({ method: "difference", result: this.#id, strength });
    return image(samples, this.width, this.height);
  }

  /** A PNG file of the picture with the answer, with the bits, alpha and colour profile that it came with. */
  async png(strength = 1): Promise<Blob> {
    const samples = await this.#link.send<"png">({ method: "png", result: this.#id, strength });
    return new Blob([samples], { type: "image/png" });
  }

  /** Frees its memory. */
  close(): void {
    this.#link.send({ method: "close", object: this.#id }).catch(() => undefined);
  }
}

/** A picture in the worker. */
class Picture {
  readonly width: number;
  readonly height: number;
  /** Bits per sample, 8 or 16. */
  readonly bits: number;
  /** Share of the pixels that carry colour, which generators for grey leave as they are. */
  readonly coloured: number;
  /** As it came, with 8 bits per sample. */
  readonly image: ImageData;
  readonly #link: Link;
  readonly #id: number;

  constructor(link: Link, opened: Replies["open"]) {
    this.#link = link;
    this.#id = opened.picture;
    this.width = opened.width;
    this.height = opened.height;
    this.bits = opened.bits;
    this.coloured = opened.coloured;
    this.image = image(opened.samples, opened.width, opened.height);
  }

  /** Runs the generator. */
  async enhance(options: RunOptions = {}): Promise<Answer> {
    return new Answer(this.#link, await this.#link.send<"enhance">({ method: "enhance", picture: this.#id }, options));
  }

  /** Frees its memory. */
  close(): void {
    this.#link.send({ method: "close", object: this.#id }).catch(() => undefined);
  }
}

/** A generator on a device, in a worker. */
class Enhancer {
  readonly device: DeviceInfo;
  readonly model: ModelInfo;
  readonly #link: Link;

  constructor(link: Link, { device, model }: Loaded) {
    this.#link = link;
    this.device = device;
    this.model = model;
  }

  /** Enhances an image. A `VideoFrame` or `ImageBitmap` stays the caller's, to close. */
  async enhance(source: Source, options: EnhanceOptions = {}): Promise<Enhanced> {
    const { strength = 1, ...run } = options;
    if (!(source instanceof Blob)) {
      const frame = await this.#frame(source, { ...options, before: false });
      return { image: image(frame.after, frame.afterWidth, frame.afterHeight), report: frame.report };
    }
    const picture = await this.open(source);
    try {
      const answer = await picture.enhance(run);
      const enhanced = { image: await answer.image(strength), report: answer.report };
      answer.close();
      return enhanced;
    } finally {
      picture.close();
    }
  }

  /** As `enhance`, for streams: also gives the pixels that the result was made of. */
  async enhanceFrame(source: Exclude<Source, Blob>, options: FrameOptions = {}): Promise<EnhancedFrame> {
    const frame = await this.#frame(source, { ...options, before: true });
    return {
      before: image(frame.before as Uint8Array<ArrayBuffer>, frame.width, frame.height),
      image: image(frame.after, frame.afterWidth, frame.afterHeight),
      difference: frame.difference && image(frame.difference, frame.afterWidth, frame.afterHeight),
      report: frame.report,
    };
  }

  async #frame(source: Exclude<Source, Blob>, options: FrameOptions & { before: boolean }): Promise<Replies["frame"]> {
    const { strength = 1, before, difference = false, ...run } = options;
    const [own, transfer] = await handOver(source);
    return this.#link.send<"frame">({ method: "frame", source: own, strength, before, difference }, run, transfer);
  }

  /** Opens a picture to be looked at, enhanced, blended and saved. */
  async open(source: Source, options: Pick<RunOptions, "signal"> = {}): Promise<Picture> {
    const [own, transfer] = await handOver(source);
    return new Picture(this.#link, await this.#link.send<"open">({ method: "open", source: own }, options, transfer));
  }

  /** Ends the worker; whatever still waits is rejected. */
  close(): void {
    this.#link.close();
  }
}

/** What the worker may keep: frames and bitmaps are handed over as copies, which cost no pixels. */
async function handOver<S extends Source>(source: S): Promise<[S, Transferable[]]> {
  if (source instanceof Blob || source instanceof ImageData) return [source, []];
  const own = "displayWidth" in source ? source.clone() : await createImageBitmap(source);
  return [own as S, [own]];
}

/**
 * Starts a worker and loads the generator in it.
 *
 * Rejects with a `SonolumeError`: a `WeightsError` if no architecture fits the file, a `DeviceError` if the device cannot be
 * used.
 */
export async function loadEnhancer(options: LoadOptions = {}): Promise<Enhancer> {
  const { device = "auto", weights, name = "weights", memoryLimit = null, half = false } = options;
  const link = new Link();
  try {
    const buffer = weights ? await content(weights) : null;
    const request = { method: "load", device, weights: buffer, name, memoryLimit, half } as const;
    return new Enhancer(link, await link.send<"load">(request, {}, buffer ? [buffer] : []));
  } catch (error) {
    link.close();
    throw error;
  }
}

/** A copy that the worker may keep. */
async function content(weights: Blob | ArrayBuffer | ArrayBufferView<ArrayBuffer>): Promise<ArrayBuffer> {
  if (weights instanceof Blob) return weights.arrayBuffer();
  if (weights instanceof ArrayBuffer) return weights.slice(0);
  return weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.byteLength);
}

/** They come from `loadEnhancer`, never from `new`. */
export type { Answer, Enhancer, Picture };

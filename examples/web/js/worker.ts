/** The worker's half: owns the WebAssembly module, the pictures and the results. */

import type { DeviceInfo, ModelInfo, Report } from "./index.js";
import type { FromWorker, LoadRequest, Replies, Request, ToWorker } from "./protocol.js";
import type * as Module from "./wasm/simd/sonolume_web.js";
import type { Enhancer, Picture, Result, Stop } from "./wasm/simd/sonolume_web.js";

interface Scope {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: FromWorker, transfer: Transferable[]): void;
}
const scope = self as unknown as Scope;

/** What of WebGPU is needed to name the device; TypeScript's library does not have it yet. */
interface Adapter {
  info?: { vendor: string; architecture: string; description: string };
  isFallbackAdapter?: boolean;
}
interface Gpu {
  requestAdapter(options: { powerPreference: string }): Promise<Adapter | null>;
}

/** A module of one function, `f32x4.relaxed_madd` of three zeros. */
const RELAXED_SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0,
  10, 19, 1, 17, 0, 65, 0, 253, 15, 65, 0, 253, 15, 65, 0, 253, 15, 253, 133, 2, 11,
);
/** Both modules have the same exports. A multiply-add may be rounded once with relaxed SIMD, without it is rounded twice. */
const relaxed = WebAssembly.validate(RELAXED_SIMD);

let wasm: typeof Module | undefined;
let enhancer: Enhancer | undefined;
let last = 0;
const pictures = new Map<number, Picture>();
const results = new Map<number, Result>();
const stops = new Map<number, Stop>();
/** Runs follow one another: two at once would only share the device. */
let queue: Promise<unknown> = Promise.resolve();

function failure(name: string, message: string): Error {
  const error = new Error(message);
  error.name = name;
  return error;
}

function loaded(): typeof Module {
  if (!wasm) throw failure("OptionsError", "the enhancer is not loaded");
  return wasm;
}

function ready(): Enhancer {
  if (!enhancer) throw failure("OptionsError", "the enhancer is not loaded");
  return enhancer;
}

function find<T>(all: Map<number, T>, id: number): T {
  const found = all.get(id);
  if (!found) throw failure("OptionsError", "this picture is closed");
  return found;
}

async function load(request: LoadRequest): Promise<Replies["load"]> {
  const module = relaxed
    ? ((await import("./wasm/relaxed-simd/sonolume_web.js")) as typeof Module)
    : await import("./wasm/simd/sonolume_web.js");
  const file = relaxed
    ? new URL("./wasm/relaxed-simd/sonolume_web_bg.wasm", import.meta.url)
    : new URL("./wasm/simd/sonolume_web_bg.wasm", import.meta.url);
  await module.default({ module_or_path: file });
  wasm = module;
  const { Enhancer } = module;
  const weights = request.weights ? new Uint8Array(request.weights) : undefined;
  const { name, memoryLimit, half } = request;
  const open = (device: string) => Enhancer.load(device, weights, name, memoryLimit ?? undefined, half);
  let reason: string | undefined;
  try {
    enhancer = await open(request.device);
  } catch (error) {
    if (request.device === "cpu" || (error as Error).name !== "DeviceError") throw error;
    if (request.device === "webgpu") {
      const { adapter, problem } = await look();
      throw adapter ? error : failure("DeviceError", `${problem} The CPU works without it.`);
    }
    reason = `The GPU cannot be used: ${(error as Error).message}`;
    enhancer = await open("cpu");
  }
  const device = enhancer.device() as DeviceInfo;
  const { adapter, problem } = await look();
  if (device.kind === "cpu") {
    device.name = `WebAssembly ${relaxed ? "relaxed SIMD" : "SIMD"} on the CPU`;
    if (request.device !== "cpu") device.reason = reason ?? problem;
  } else if (adapter?.info) {
    const { vendor, architecture, description } = adapter.info;
    const known = [vendor, architecture, description].filter((word) => word !== "").join(" ");
    device.name = known === "" ? "WebGPU" : `${known}, WebGPU`;
  }
  return { device, model: enhancer.model() as ModelInfo };
}

/** The adapter that WebGPU offers, and why it may not do. */
async function look(): Promise<{ adapter: Adapter | null; problem: string }> {
  const gpu = (navigator as { gpu?: Gpu }).gpu;
  if (!gpu) {
    const problem = self.isSecureContext
      ? "This browser has no WebGPU, or it is switched off."
      : "Browsers offer WebGPU only to pages from https or from this machine.";
    return { adapter: null, problem };
  }
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  const problem = adapter
    ? "WebGPU has only a software adapter here, which is slower than the CPU path."
    : "WebGPU found no GPU that it can use.";
  return { adapter, problem };
}

async function read(source: Blob | ImageData | ImageBitmap | VideoFrame): Promise<Picture> {
  const { Picture } = loaded();
  if (source instanceof Blob) return Picture.decode(new Uint8Array(await source.arrayBuffer()));
  const { width, height, data } = source instanceof ImageData ? source : draw(source);
  return Picture.from_rgba(width, height, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

function draw(source: ImageBitmap | VideoFrame): ImageData {
  const [width, height] = "displayWidth" in source
    ? [source.displayWidth, source.displayHeight]
    : [source.width, source.height];
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw failure("ImageError", `a ${width}x${height} picture is larger than this browser draws`);
  context.drawImage(source, 0, 0);
  source.close();
  return context.getImageData(0, 0, width, height);
}

/** Runs the generator once all earlier runs are over. */
function run(id: number, picture: Picture): Promise<Result> {
  const stop = new (loaded().Stop)();
  stops.set(id, stop);
  const progress = (share: number) => scope.postMessage({ id, progress: share }, []);
  const result = queue.then(() => ready().enhance(picture, stop, progress));
  queue = result.catch(() => undefined).then(() => {
    stops.delete(id);
    stop.free();
  });
  return result;
}

function bytes(array: Uint8Array): Uint8Array<ArrayBuffer> {
  return array as Uint8Array<ArrayBuffer>;
}

async function answer(request: Request & { id: number }): Promise<Replies[keyof Replies]> {
  switch (request.method) {
    case "load":
      return load(request);
    case "open": {
      const picture = await read(request.source);
      pictures.set(++last, picture);
      const { width, height, bits, coloured } = picture;
      return { picture: last, width, height, bits, coloured, samples: bytes(picture.rgba()) };
    }
    case "enhance": {
      const result = await run(request.id, find(pictures, request.picture));
      results.set(++last, result);
      return { result: last, width: result.width, height: result.height, report: result.report() as Report };
    }
    case "image":
      return bytes(find(results, request.result).rgba(request.strength));
    case "difference":
      return bytes(find(results, request.result).difference(request.strength));
    case "png":
      return bytes(find(results, request.result).png(request.strength));
    case "frame": {
      const picture = await read(request.source);
      try {
        const result = await run(request.id, picture);
        const before = request.before ? bytes(picture.rgba()) : null;
        const after = bytes(result.rgba(request.strength));
        const difference = request.difference ? bytes(result.difference(request.strength)) : null;
        const report = result.report() as Report;
        const [afterWidth, afterHeight] = [result.width, result.height];
        result.free();
        return { width: picture.width, height: picture.height, before, after, afterWidth, afterHeight, difference, report };
      } finally {
        picture.free();
      }
    }
    case "close":
      for (const all of [pictures, results]) {
        all.get(request.object)?.free();
        all.delete(request.object);
      }
      return null;
  }
}

/** Buffers that the page gets without a copy. */
function buffers(reply: Replies[keyof Replies]): Transferable[] {
  const values = reply instanceof Uint8Array ? [reply] : Object.values(reply ?? {});
  return values.filter((value) => value instanceof Uint8Array).map((value) => value.buffer);
}

scope.onmessage = ({ data }) => {
  if ("stop" in data) {
    stops.get(data.stop)?.stop();
    return;
  }
  answer(data).then(
    (reply) => scope.postMessage({ id: data.id, reply }, buffers(reply)),
    (thrown: unknown) => {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      const name = error instanceof WebAssembly.RuntimeError ? "CrashError" : error.name;
      scope.postMessage({ id: data.id, error: { name, message: error.message } }, []);
    },
  );
};

/** What the page and its worker say to each other. */

import type { DeviceInfo, ModelInfo, Report } from "./index.js";

export interface LoadRequest {
  method: "load";
  device: string;
  weights: ArrayBuffer | null;
  name: string;
  memoryLimit: number | null;
  half: boolean;
}

/** Pictures and results live in the worker; the page knows them by number. */
export type Request =
  | LoadRequest
  | { method: "open"; source: Blob | ImageData | ImageBitmap | VideoFrame }
  | { method: "enhance"; picture: number }
  | { method: "image"; result: number; strength: number }
  | { method: "difference"; result: number; strength: number }
  | { method: "png"; result: number; strength: number }
  | { method: "frame"; source: ImageData | ImageBitmap | VideoFrame; strength: number; before: boolean; difference: boolean }
  | { method: "close"; object: number };

/** A page's message: a numbered request, or the wish to stop one. */
export type ToWorker = (Request & { id: number }) | { stop: number };

export interface Loaded {
  device: DeviceInfo;
  model: ModelInfo;
}

export interface Opened {
  picture: number;
  width: number;
  height: number;
  bits: number;
  coloured: number;
  samples: Uint8Array<ArrayBuffer>;
}

export interface Finished {
  result: number;
  width: number;
  height: number;
  report: Report;
}

/** A frame of a stream, before and after. */
export interface Streamed {
  width: number;
  height: number;
  /** As it came, if it was asked for. */
  before: Uint8Array<ArrayBuffer> | null;
  after: Uint8Array<ArrayBuffer>;
  afterWidth: number;
  afterHeight: number;
  /** Of the size of `after`. */
  difference: Uint8Array<ArrayBuffer> | null;
  report: Report;
}

export interface Replies {
  load: Loaded;
  open: Opened;
  enhance: Finished;
  image: Uint8Array<ArrayBuffer>;
  difference: Uint8Array<ArrayBuffer>;
  png: Uint8Array<ArrayBuffer>;
  frame: Streamed;
  close: null;
}

/** The worker's message about the request `id`. */
export type FromWorker =
  | { id: number; reply: Replies[keyof Replies] }
  | { id: number; progress: number }
  | { id: number; error: { name: string; message: string } };

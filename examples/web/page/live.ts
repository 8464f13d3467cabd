/** Live mode: frames of a video file or a camera, enhanced as fast as the device can; frames between are left out. */

import type { EnhancedFrame, Enhancer } from "sonolume";

export interface LiveOptions {
  /** The one to use now; when it is replaced, live mode goes on with the next. */
  enhancer(): Enhancer;
  strength(): number;
  /** Whether the difference is looked at. */
  difference(): boolean;
  /** Longest side of the frames that are enhanced; 0 leaves them as they come. */
  longestSide(): number;
  show(frame: EnhancedFrame, figures: { rate: number; latencyMs: number; strength: number }): void;
  failed(error: unknown): void;
}

/** Weight of a new frame in the figures that are shown. */
const FRESH = 0.2;

export class Live {
  readonly #video: HTMLVideoElement;
  readonly #stopped = new AbortController();
  readonly #release: () => void;

  private constructor(video: HTMLVideoElement, release: () => void, options: LiveOptions) {
    this.#video = video;
    this.#release = release;
    void this.#run(options);
  }

  /** Plays a video file in a loop. */
  static async file(file: Blob, options: LiveOptions): Promise<Live> {
    const url = URL.createObjectURL(file);
    const video = silent();
    video.loop = true;
    video.src = url;
    const release = () => URL.revokeObjectURL(url);
    try {
      await video.play();
    } catch {
      release();
      throw new Error("This browser cannot play that video file (damaged, or of a kind that it does not know).");
    }
    return new Live(video, release, options);
  }

  /** Opens the camera; the browser asks the user. */
  static async camera(options: LiveOptions): Promise<Live> {
    // Only pages from https or from this machine have it.
    const devices = navigator.mediaDevices as MediaDevices | undefined;
    if (!devices) throw new Error("Browsers offer the camera only to pages from https or from this machine.");
    let stream: MediaStream;
    try {
      stream = await devices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    } catch (error) {
      throw new Error(`The camera cannot be used: ${(error as Error).message}`);
    }
    const video = silent();
    video.srcObject = stream;
    const release = () => stream.getTracks().forEach((track) => track.stop());
    for (const track of stream.getTracks()) {
      track.addEventListener("ended", () => options.failed(new Error("The camera was unplugged or taken away.")));
    }
    await video.play();
    return new Live(video, release, options);
  }

  get paused(): boolean {
    return this.#video.paused;
  }
  set paused(paused: boolean) {
    if (paused) this.#video.pause();
    else void this.#video.play();
  }

  /** Ends it and lets go of the file or the camera. */
  end(): void {
    this.#stopped.abort();
    this.#video.pause();
    this.#video.removeAttribute("src");
    this.#video.srcObject = null;
    this.#release();
  }

  async #run({ enhancer, strength, difference, longestSide, show, failed }: LiveOptions): Promise<void> {
    const { signal } = this.#stopped;
    let [interval, latencyMs, shown] = [0, 0, 0];
    const average = (old: number, value: number) => (old ? old + FRESH * (value - old) : value);
    try {
      while (!signal.aborted) {
        await next(this.#video, signal);
        const captured = performance.now();
        const bitmap = await capture(this.#video, longestSide());
        const [engine, share] = [enhancer(), strength()];
        try {
          const frame = await engine.enhanceFrame(bitmap, { strength: share, difference: difference(), signal });
          if (this.paused) continue;
          const now = performance.now();
          latencyMs = average(latencyMs, now - captured);
          if (shown) interval = average(interval, now - shown);
          shown = now;
          show(frame, { rate: interval ? 1000 / interval : 0, latencyMs, strength: share });
        } catch (error) {
          if (engine === enhancer()) throw error;
        } finally {
          bitmap.close();
        }
      }
    } catch (error) {
      if (!signal.aborted) failed(error);
    }
  }
}

function silent(): HTMLVideoElement {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  return video;
}

/** Waits for a frame that has not been seen yet. */
function next(video: HTMLVideoElement, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      video.cancelVideoFrameCallback(waiting);
      reject(signal.reason);
    };
    const waiting = video.requestVideoFrameCallback(() => {
      signal.removeEventListener("abort", abort);
      resolve();
    });
    signal.addEventListener("abort", abort, { once: true });
  });
}

async function capture(video: HTMLVideoElement, longestSide: number): Promise<ImageBitmap> {
  const { videoWidth: width, videoHeight: height } = video;
  const scale = longestSide ? Math.min(1, longestSide / Math.max(width, height)) : 1;
  if (scale === 1) return createImageBitmap(video);
  const [resizeWidth, resizeHeight] = [Math.round(width * scale), Math.round(height * scale)];
  return createImageBitmap(video, { resizeWidth, resizeHeight, resizeQuality: "medium" });
}

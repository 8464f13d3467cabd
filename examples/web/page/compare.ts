/**
 * `<compare-view>`: two pictures in one place, with a divider, zoom and pan in step.
 *
 * Everything is drawn from one transform, so the sides cannot come apart. The divider is an ARIA slider; with the focus on
 * the picture, arrow keys move it, + and - zoom, 0 fits and 1 shows one picture pixel per screen pixel.
 */

import { type Box, type Place, Pyramid } from "./pyramid.js";

export type Look = "split" | "original" | "enhanced" | "difference";

const STYLE = `
  :host { display: block; touch-action: none; user-select: none; -webkit-user-select: none; }
  canvas { position: absolute; inset: 0; width: 100%; height: 100%; cursor: grab; }
  canvas:active { cursor: grabbing; }
  :focus-visible { outline: 2px solid #ffb454; outline-offset: -2px; }
  .divider { position: absolute; top: 0; bottom: 0; width: 44px; margin-left: -22px; cursor: ew-resize; }
  .divider::before { content: ""; position: absolute; left: 21px; top: 0; bottom: 0; width: 2px; background: #ffb454; }
  .divider::after { content: "\\2039\\2009\\203a"; position: absolute; left: 4px; top: 50%; width: 36px; height: 36px; margin-top: -18px;
    border-radius: 50%; background: #ffb454; color: #1b1204; font: 600 20px/32px system-ui, sans-serif; text-align: center; }
  .name { position: absolute; bottom: .7rem; padding: .15rem .55rem; border-radius: .35rem; background: rgb(8 9 11 / .75);
    color: #eceef0; font-size: .85rem; pointer-events: none; }
  .left { left: .7rem; } .right { right: .7rem; }
  .zoom { position: absolute; top: .7rem; right: .7rem; padding: .15rem .55rem; border-radius: .35rem; background: rgb(8 9 11 / .75);
    color: #a5adb6; font-size: .85rem; font-variant-numeric: tabular-nums; pointer-events: none; }
  [hidden] { display: none; }
`;

/** Screen pixels for a picture pixel. */
const LARGEST = 32;

type Layer = "original" | "enhanced" | "difference";
const LAYERS: readonly Layer[] = ["original", "enhanced", "difference"];
interface Point {
  x: number;
  y: number;
}

/** Puts a picture of a whole scale, but for rounding, on whole pixels: none is blurred. */
function settled(place: Place): Place {
  const scale = Math.max(Math.round(place.scale), 1);
  if (Math.abs(place.scale - scale) > 1e-6) return place;
  return { x: Math.round(place.x), y: Math.round(place.y), scale };
}

export class CompareView extends HTMLElement {
  readonly #canvas = document.createElement("canvas");
  readonly #divider = document.createElement("div");
  readonly #names = { left: document.createElement("span"), right: document.createElement("span") };
  readonly #zoom = document.createElement("span");
  /** What is to be shown, and what is: the same but while a large picture is being prepared. */
  readonly #images: Partial<Record<Layer, ImageData>> = {};
  #layers: Partial<Record<Layer, Pyramid>> = {};
  #preparing = false;
  readonly #pointers = new Map<number, Point>();
  #look: Look = "split";
  #held = false;
  #split = 0.5;
  /** Screen pixels (CSS) per picture pixel, and where the picture's corner is; `null` fits the picture. */
  #place: (Point & { scale: number }) | null = null;
  #waiting = false;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    const style = document.createElement("style");
    style.textContent = STYLE;
    this.#canvas.tabIndex = 0;
    this.#canvas.setAttribute("role", "img");
    this.#canvas.setAttribute("aria-label", "The picture, original and enhanced");
    this.#divider.className = "divider";
    this.#divider.tabIndex = 0;
    for (const [name, value] of Object.entries({ role: "slider", "aria-label": "Divider between original and enhanced",
      "aria-valuemin": "0", "aria-valuemax": "100", "aria-orientation": "horizontal" })) {
      this.#divider.setAttribute(name, value);
    }
    this.#names.left.className = "name left";
    this.#names.right.className = "name right";
    this.#zoom.className = "zoom";
    root.append(style, this.#canvas, this.#divider, this.#names.left, this.#names.right, this.#zoom);
    this.#listen();
    new ResizeObserver(() => this.#changed()).observe(this);
  }

  /** The picture as it came; another size fits the view anew. */
  set original(image: ImageData | null) {
    this.#set("original", image);
  }
  get original(): ImageData | null {
    return this.#images.original ?? null;
  }

  set enhanced(image: ImageData | null) {
    this.#set("enhanced", image);
  }
  get enhanced(): ImageData | null {
    return this.#images.enhanced ?? null;
  }

  set difference(image: ImageData | null) {
    this.#set("difference", image);
  }
  get difference(): ImageData | null {
    return this.#images.difference ?? null;
  }

  set look(look: Look) {
    this.#look = look;
    this.#changed();
  }
  get look(): Look {
    return this.#look;
  }

  /** While true, the original is shown, whatever the look. */
  set held(held: boolean) {
    this.#held = held;
    this.#changed();
  }

  /** The whole picture. */
  fit(): void {
    this.#place = null;
    this.#changed();
  }

  /** Zooms around a point of the view, its middle if none is given. */
  zoomBy(factor: number, at: Point = { x: this.clientWidth / 2, y: this.clientHeight / 2 }): void {
    const { x, y, scale } = this.#transform();
    const smallest = Math.min(this.#fitted().scale, 1);
    const next = Math.min(Math.max(scale * factor, smallest / 2), LARGEST);
    this.#place = { x: at.x - ((at.x - x) * next) / scale, y: at.y - ((at.y - y) * next) / scale, scale: next };
    this.#changed();
  }

  #panBy(x: number, y: number): void {
    const place = this.#transform();
    this.#place = { x: place.x + x, y: place.y + y, scale: place.scale };
    this.#changed();
  }

  set split(split: number) {
    this.#split = Math.min(Math.max(split, 0), 1);
    this.#changed();
  }
  get split(): number {
    return this.#split;
  }

  #set(layer: Layer, image: ImageData | null): void {
    if (image) this.#images[layer] = image;
    else delete this.#images[layer];
    if (!this.#preparing) void this.#prepare();
  }

  /** Brings what is shown up to what is to be shown, in one step for all layers; at once unless a picture is large. */
  async #prepare(): Promise<void> {
    this.#preparing = true;
    try {
      const behind = () => LAYERS.some((layer) => this.#images[layer] !== this.#layers[layer]?.image);
      while (behind()) {
        const next: Partial<Record<Layer, Pyramid>> = {};
        for (const layer of LAYERS) {
          const [image, old] = [this.#images[layer], this.#layers[layer]];
          if (image) next[layer] = old?.image === image ? old : new Pyramid(image);
        }
        for (const layer of Object.values(next)) {
          if (!layer.built) await layer.build();
        }
        const [old, now] = [this.#layers.original?.image, next.original?.image];
        if (now && (old?.width !== now.width || old.height !== now.height)) this.#place = null;
        this.#layers = next;
        this.#changed();
      }
    } finally {
      this.#preparing = false;
    }
  }

  #fitted(): Point & { scale: number } {
    const { width = 1, height = 1 } = this.#layers.original?.image ?? {};
    const scale = Math.min(this.clientWidth / width, this.clientHeight / height, LARGEST) || 1;
    return { x: (this.clientWidth - width * scale) / 2, y: (this.clientHeight - height * scale) / 2, scale };
  }

  #transform(): Point & { scale: number } {
    return this.#place ?? this.#fitted();
  }

  #changed(): void {
    this.#describe(); // at once: assistive technology and scripts read it; only the drawing waits for a frame
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      this.#draw();
    });
  }

  #draw(): void {
    const { original } = this.#layers;
    const density = window.devicePixelRatio;
    const [width, height] = [Math.round(this.clientWidth * density), Math.round(this.clientHeight * density)];
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
    }
    const context = this.#canvas.getContext("2d");
    if (!context || !original) return;
    const { x, y, scale } = this.#transform();
    const look = this.#shown();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    // Enlarged far enough, pixels are to be seen as pixels.
    context.imageSmoothingEnabled = scale * density < 3;
    let fine = true;
    const paint = (layer: Pyramid | undefined, box: Box) => {
      if (!layer) return;
      // A generator may enlarge.
      const own = (scale * density * original.image.width) / layer.image.width;
      fine = layer.draw(context, settled({ x: x * density, y: y * density, scale: own }), box) && fine;
    };
    const at = this.#split * width;
    if (look === "split") {
      this.#clip(context, 0, at, height, (box) => paint(original, box));
      this.#clip(context, at, width, height, (box) => paint(this.#layers.enhanced, box));
    } else {
      paint(this.#layers[look], { left: 0, top: 0, right: width, bottom: height });
    }
    if (!fine) this.#changed();
  }

  /** The look that is on the screen. */
  #shown(): Look {
    if (this.#held || !this.#layers.enhanced) return "original";
    return this.#look === "difference" && !this.#layers.difference ? "enhanced" : this.#look;
  }

  #clip(context: CanvasRenderingContext2D, left: number, right: number, height: number, paint: (box: Box) => void): void {
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, height);
    context.clip();
    paint({ left: Math.floor(left), top: 0, right: Math.ceil(right), bottom: height });
    context.restore();
  }

  #describe(): void {
    if (!this.#layers.original) return;
    const look = this.#shown();
    const percent = Math.round(this.#split * 100);
    this.#divider.hidden = look !== "split";
    this.#divider.style.left = `${this.#split * 100}%`;
    this.#divider.setAttribute("aria-valuenow", String(percent));
    this.#divider.setAttribute("aria-valuetext", `${percent} percent original, ${100 - percent} percent enhanced`);
    const { left, right } = this.#names;
    left.textContent = { split: "Original", original: "Original", enhanced: "Enhanced", difference: "Difference: grey is unchanged, light became brighter" }[look];
    right.textContent = "Enhanced";
    right.hidden = look !== "split";
    this.#zoom.textContent = `${Math.round(this.#transform().scale * window.devicePixelRatio * 100)} %`;
  }

  #listen(): void {
    this.#divider.addEventListener("pointerdown", (event) => {
      this.#divider.setPointerCapture(event.pointerId);
      event.preventDefault();
      this.#divider.focus({ focusVisible: false } as FocusOptions);
    });
    this.#divider.addEventListener("pointermove", (event) => {
      if (!this.#divider.hasPointerCapture(event.pointerId)) return;
      const box = this.getBoundingClientRect();
      this.split = (event.clientX - box.left) / box.width;
    });
    this.#divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.split += step;
    });
    this.#canvas.addEventListener("pointerdown", (event) => {
      this.#canvas.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, this.#point(event));
    });
    this.#canvas.addEventListener("pointermove", (event) => this.#moved(event));
    for (const end of ["pointerup", "pointercancel"] as const) {
      this.#canvas.addEventListener(end, (event) => this.#pointers.delete(event.pointerId));
    }
    this.#canvas.addEventListener("dblclick", (event) => {
      if (this.#place) this.fit();
      else this.zoomBy(2, this.#point(event));
    });
    this.addEventListener("wheel", (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
      this.zoomBy(Math.exp(-event.deltaY * lines * 0.0015), this.#point(event));
    }, { passive: false });
    this.#canvas.addEventListener("keydown", (event) => this.#pressed(event));
  }

  #point(event: MouseEvent): Point {
    const box = this.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  /** One pointer moves the picture; two pull it apart around their middle. */
  #moved(event: PointerEvent): void {
    const old = this.#pointers.get(event.pointerId);
    if (!old) return;
    const now = this.#point(event);
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.#pointers.set(event.pointerId, now);
    if (!other) return this.#panBy(now.x - old.x, now.y - old.y);
    const apart = (a: Point) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
    this.zoomBy(apart(now) / apart(old), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    this.#panBy((now.x - old.x) / 2, (now.y - old.y) / 2);
  }

  #pressed(event: KeyboardEvent): void {
    const step = 40;
    const pan = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
    if (pan) this.#panBy(pan[0] as number, pan[1] as number);
    else if (event.key === "+" || event.key === "=") this.zoomBy(1.25);
    else if (event.key === "-") this.zoomBy(0.8);
    else if (event.key === "0") this.fit();
    else if (event.key === "1") this.zoomBy(1 / (this.#transform().scale * window.devicePixelRatio));
    else return;
    event.preventDefault();
  }
}

customElements.define("compare-view", CompareView);

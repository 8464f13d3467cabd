/** Puts the page together: what is open, what runs, what is shown. */

import { type Answer, type Enhancer, type LoadOptions, type Picture, loadEnhancer } from "sonolume";
import "./compare.js";
import type { CompareView, Look } from "./compare.js";
import { type Kind, kindOf, pick, receive, resultName, save } from "./files.js";
import { Live, type LiveOptions } from "./live.js";
import { BUILT_IN, Models, stem } from "./models.js";
import { Work, conceal } from "./work.js";

function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

const view = element<CompareView>("view");
const strength = element<HTMLInputElement>("strength");
const modelChoice = element<HTMLSelectElement>("model");
const deviceChoice = element<HTMLSelectElement>("device-choice");
const liveSize = element<HTMLSelectElement>("live-size");
const saveButton = element<HTMLButtonElement>("save");

const models = new Models(modelChoice);
const work = new Work();

let enhancer: Enhancer | undefined;
/** What was opened, to be opened anew by another generator or device: a file, or the frame that live mode stopped at. */
let source: { blob: Blob | ImageData; name: string } | undefined;
let picture: Picture | undefined;
let answer: Answer | undefined;
let live: Live | undefined;
/** What the live frame on the screen was made with. */
let shown = { model: BUILT_IN, strength: 1 };
/** The choices of generator and device that are in use. */
let [current, currentDevice] = [BUILT_IN, "auto"];
/** Grows with every picture and every generator, so that late answers about earlier ones are dropped. */
let turn = 0;
/** Grows with every choice of a generator or a device: the last one wins, however long each takes to load. */
let choices = 0;

function say(text: string): void {
  element("status").textContent = text;
}

/** Shows what went wrong, with `file` if that is what it is about. */
function complain(error: unknown, file?: string): void {
  if ((error as Error).name === "AbortError") return;
  const text = error instanceof Error ? error.message : String(error);
  element("message-text").textContent = file ? `${file}: ${text}` : text.charAt(0).toUpperCase() + text.slice(1);
  element("message").hidden = false;
  if ((error as Error).name !== "CrashError") return;
  // The worker's pictures are gone with it; the next one starts another.
  enhancer = undefined;
  endLive();
  letGo();
  view.original = view.enhanced = view.difference = null;
  view.hidden = true;
  element("empty").hidden = false;
}

function dismiss(): void {
  conceal(element("message"));
}

function share(): number {
  return Number(strength.value) / 100;
}

let loading: Promise<Enhancer> | undefined;

/** The generator, once it is loaded. */
async function ready(): Promise<Enhancer> {
  if (enhancer) return enhancer;
  loading ??= models
    .weights(modelChoice.value)
    .then(load)
    .then((next) => {
      if (!enhancer) return use(next);
      next.close(); // another choice was faster
      return enhancer;
    })
    .finally(() => (loading = undefined));
  return loading;
}

async function load(weights: Pick<LoadOptions, "weights" | "name">): Promise<Enhancer> {
  say("Loading the generator…");
  return loadEnhancer({ ...weights, device: deviceChoice.value as NonNullable<LoadOptions["device"]> });
}

/** From now on `next` does the work; the worker of the one before ends, and its pictures with it. */
function use(next: Enhancer): Enhancer {
  const last = enhancer;
  if (last?.device.kind !== next.device.kind) liveSize.value = next.device.kind === "gpu" ? "640" : "320";
  enhancer = next;
  last?.close();
  [current, currentDevice] = [modelChoice.value, deviceChoice.value];
  [picture, answer] = [undefined, undefined];
  saveButton.disabled = true;
  element("device").textContent = next.device.name;
  element("lamp").className = `lamp ${next.device.kind}`;
  const reason = element("device-reason");
  reason.hidden = !next.device.reason;
  reason.textContent = next.device.reason ? `${next.device.reason} The CPU does the work instead, with the same result.` : "";
  say(`${next.model.name} is ready.`);
  return next;
}

/** Another generator or device: loads it, and enhances what is open again. What was loaded before stays if that fails. */
async function reload(
  weights: () => Promise<Pick<LoadOptions, "weights" | "name">>,
  { file, loaded = () => {} }: { file?: string; loaded?: () => void } = {},
): Promise<void> {
  dismiss();
  const mine = ++choices;
  try {
    const next = await load(await weights());
    if (mine !== choices) return next.close();
    loaded();
    turn += 1;
    work.stop();
    use(next);
  } catch (error) {
    if (mine !== choices) return;
    say(enhancer ? `Still using ${enhancer.model.name}.` : "No generator is loaded.");
    models.show(current);
    if (enhancer) deviceChoice.value = currentDevice;
    return complain(error, file);
  }
  if (source) await reopen(source.blob, source.name);
  else if (live) sayLive();
}

async function open(blob: Blob, name: string): Promise<void> {
  endLive();
  await reopen(blob, name);
}

/** As `open`, beside a paused live mode. */
async function reopen(blob: Blob | ImageData, name: string): Promise<void> {
  dismiss();
  work.stop();
  conceal(element("again"));
  const mine = ++turn;
  try {
    // With nothing else to look at, another device or generator may try it again.
    if (!picture) source = { blob, name };
    const engine = await ready();
    if (mine !== turn) return;
    const opened = await work.run("Opening", (signal) => engine.open(blob, { signal }));
    if (mine !== turn) return opened.close();
    picture?.close();
    answer?.close();
    [picture, answer, source] = [opened, undefined, { blob, name }];
    showOriginal(opened, name);
    await enhance(opened, mine);
  } catch (error) {
    if (mine !== turn) return;
    complain(error, (error as Error).name === "ImageError" ? name : undefined);
    if (enhancer) source = picture && source;
    say(picture ? "The picture from before is still open." : "Nothing is open.");
    if (picture && !answer) element("again").hidden = false;
  }
}

function showOriginal(opened: Picture, name: string): void {
  element("empty").hidden = true;
  view.hidden = false;
  view.enhanced = null;
  view.difference = null;
  view.original = opened.image;
  saveButton.disabled = true;
  const coloured = opened.coloured > 0.5 ? " Most of it is coloured, and colour passes unchanged." : "";
  element("picture-fact").textContent = `${name}: ${opened.width} × ${opened.height}, ${opened.bits} bit.${coloured}`;
}

async function enhance(opened: Picture, own: number): Promise<void> {
  say("Enhancing…");
  try {
    conceal(element("again"));
    const found = await work.run("Enhancing", (signal, onProgress) => opened.enhance({ signal, onProgress }));
    if (own !== turn) return found.close();
    answer = found;
    await blend();
    saveButton.disabled = false;
    const { report } = found;
    const tiles = report.tiles === 1 ? "" : ` in ${report.tiles} tiles`;
    const scale = found.width / opened.width;
    const enlarged = scale === 1 ? "" : ` It has ${scale} times as many pixels each way, but not more echoes.`;
    say(`${found.width} × ${found.height} enhanced by ${report.model} in ${time(report.totalMs)}${tiles}.${enlarged}`);
    document.documentElement.dataset["firstResultMs"] ??= String(Math.round(performance.now()));
  } catch (error) {
    if (own === turn && picture) element("again").hidden = false;
    if (own !== turn || (error as Error).name !== "AbortError") throw error;
    say("Stopped. The original is shown.");
  }
}

function time(milliseconds: number): string {
  return milliseconds < 995 ? `${milliseconds.toFixed(0)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

let blending = false;
let blendAgain = false;

/** Shows the answer at the chosen strength; while one blend runs, only the newest wish waits. */
async function blend(): Promise<void> {
  if (blending) {
    blendAgain = true;
    return;
  }
  blending = true;
  try {
    do {
      blendAgain = false;
      const wanted = answer;
      if (!wanted) return;
      const image = await wanted.image(share());
      const difference = view.look === "difference" ? await wanted.difference(share()) : null;
      if (wanted !== answer) continue;
      view.enhanced = image;
      view.difference = difference;
    } while (blendAgain);
  } finally {
    blending = false;
  }
}

/** The name of a frame of live mode. */
const LIVE_FRAME = "live-frame.png";

async function saveResult(): Promise<void> {
  if (answer && source) {
    const strength = share();
    save(await answer.png(strength), resultName(source.name, answer.report.model, strength));
  } else if (view.enhanced) {
    const canvas = new OffscreenCanvas(view.enhanced.width, view.enhanced.height);
    canvas.getContext("2d")?.putImageData(view.enhanced, 0, 0);
    save(await canvas.convertToBlob({ type: "image/png" }), resultName(LIVE_FRAME, shown.model, shown.strength));
  }
}

/** Starts live mode on what `begin` opens. */
async function goLive(begin: (options: LiveOptions) => Promise<Live>): Promise<void> {
  dismiss();
  endLive();
  const mine = turn;
  try {
    let engine = await ready();
    const begun = await begin({
      enhancer: () => (engine = enhancer ?? engine),
      strength: share,
      difference: () => view.look === "difference",
      longestSide: () => Number(liveSize.value),
      show: (frame, { rate, latencyMs, strength }) => {
        view.original = frame.before;
        view.enhanced = frame.image;
        view.difference = frame.difference;
        shown = { model: frame.report.model, strength };
        element("live-rate").textContent = rate.toFixed(rate < 10 ? 1 : 0);
        element("live-latency").textContent = latencyMs.toFixed(0);
        element("empty").hidden = true;
        view.hidden = false;
        saveButton.disabled = false;
      },
      failed: (error) => {
        endLive();
        say("Live mode ended.");
        complain(error);
      },
    });
    // Something else was opened while the browser asked for the camera.
    if (mine !== turn) return begun.end();
    letGo();
    live = begun;
    element("live-figures").hidden = false;
    sayLive();
  } catch (error) {
    if (mine !== turn) return;
    complain(error);
    say("Live mode did not start.");
  }
}

function sayLive(): void {
  if (enhancer) say(`Live: ${enhancer.model.name} on ${enhancer.device.name}.`);
}

/** Closes the picture; what the view shows stays. */
function letGo(): void {
  work.stop();
  turn += 1;
  picture?.close();
  answer?.close();
  [picture, answer, source] = [undefined, undefined, undefined];
  conceal(element("again"));
  saveButton.disabled = true;
  element("picture-fact").textContent = "";
}

function endLive(): void {
  if (!live) return;
  live.end();
  live = undefined;
  conceal(element("live-figures"));
  element("live-pause").setAttribute("aria-pressed", "false");
}

/** Holds live mode at the frame on the screen, which becomes a picture like any other: to blend, to look at, to save. */
async function pauseLive(): Promise<void> {
  if (!live) return;
  live.paused = !live.paused;
  element("live-pause").setAttribute("aria-pressed", String(live.paused));
  if (live.paused) return freeze();
  letGo();
  sayLive();
}

async function freeze(): Promise<void> {
  const frame = view.original;
  if (frame && !picture) await reopen(frame, LIVE_FRAME);
}

function take(file: File, kind: Kind = kindOf(file)): void {
  if (kind === "weights") void reload(async () => ({ weights: file, name: stem(file.name) }), {
      file: file.name,
      loaded: () => models.keep(file),
    });
  else if (kind === "video") void goLive((options) => Live.file(file, options));
  else void open(file, file.name || "pasted.png");
}

async function openPhantom(): Promise<void> {
  try {
    const reply = await fetch("phantom.png");
    if (!reply.ok) throw new Error(`The phantom cannot be fetched (${reply.status}).`);
    await open(await reply.blob(), "phantom.png");
  } catch (error) {
    complain(error);
  }
}

const ACTIONS: Record<string, () => void> = {
  open: () => pick("picture", (file) => take(file)),
  phantom: () => void openPhantom(),
  video: () => pick("video", (file) => take(file, "video")),
  camera: () => void goLive((options) => Live.camera(options)),
  weights: () => pick("weights", (file) => take(file, "weights")),
};

function listen(): void {
  for (const button of document.querySelectorAll<HTMLElement>("[data-do]")) {
    button.addEventListener("click", () => ACTIONS[button.dataset["do"] ?? ""]?.());
  }
  receive(element("drop"), take);
  for (const look of document.querySelectorAll<HTMLInputElement>("input[name=look]")) {
    look.addEventListener("change", () => {
      view.look = look.value as Look;
      blend().catch(complain);
    });
  }
  strength.addEventListener("input", () => {
    element("strength-value").textContent = `${strength.value} %`;
    strength.setAttribute("aria-valuetext", `${strength.value} percent`);
    blend().catch(complain);
  });
  element("fit").addEventListener("click", () => view.fit());
  element("in").addEventListener("click", () => view.zoomBy(1.5));
  element("out").addEventListener("click", () => view.zoomBy(1 / 1.5));
  for (const choice of [modelChoice, deviceChoice]) {
    choice.addEventListener("change", () => void reload(() => models.weights(modelChoice.value)));
  }
  saveButton.addEventListener("click", () => void saveResult().catch(complain));
  element("message-close").addEventListener("click", dismiss);
  element("again").addEventListener("click", () => {
    if (picture) void enhance(picture, ++turn).catch(complain);
  });
  element("live-end").addEventListener("click", () => {
    endLive();
    say("Live mode ended.");
    void freeze();
  });
  element("live-pause").addEventListener("click", () => void pauseLive());
  listenForHold();
}

/** The original while a button or the key O is held. */
function listenForHold(): void {
  const hold = element("hold");
  const set = (held: boolean) => {
    view.held = held;
    hold.setAttribute("aria-pressed", String(held));
  };
  hold.addEventListener("pointerdown", (event) => {
    hold.setPointerCapture(event.pointerId);
    set(true);
  });
  for (const end of ["pointerup", "pointercancel", "blur"]) hold.addEventListener(end, () => set(false));
  const holds = (event: KeyboardEvent) =>
    (event.key.toLowerCase() === "o" && !event.ctrlKey && !event.metaKey && !event.altKey) ||
    (event.target === hold && (event.key === " " || event.key === "Enter"));
  addEventListener("keydown", (event) => {
    if (!(event.target instanceof HTMLSelectElement) && holds(event)) set(true);
  });
  addEventListener("keyup", (event) => {
    if (holds(event)) set(false);
  });
}

/** `?device=cpu` and `?start=empty` in the address choose for the user. */
async function begin(): Promise<void> {
  const wishes = new URLSearchParams(location.search);
  const device = wishes.get("device");
  if (device && [...deviceChoice.options].some((option) => option.value === device)) deviceChoice.value = device;
  listen();
  void models.find().catch(() => undefined);
  if (wishes.get("start") === "empty") await ready().catch(complain);
  else await openPhantom();
}

void begin();

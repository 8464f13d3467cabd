// Drives the built page in headless Chromium, with a software WebGPU adapter and with none.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import axe from "axe-core";
import { chromium } from "playwright-core";

import { SITE, serve } from "../tools/serve.mjs";
import { decode, encode, pack } from "./png.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const folder = mkdtempSync(join(tmpdir(), "sonolume-web-"));
const QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
const CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
const SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
/** A software adapter on a busy machine takes its time. */
const LONG = 240_000;

let site;
let withGpu;
let withoutGpu;

before(async () => {
  site = await serve();
  const insecure = `--host-resolver-rules=MAP plain.test 127.0.0.1`;
  const launch = (args) => chromium.launch({ executablePath: chromiumPath(), args: [...QUIET, ...CAMERA, ...args] });
  withGpu = await launch(SOFTWARE_GPU);
  withoutGpu = await launch([insecure]);
});

after(async () => {
  await Promise.all([withGpu, withoutGpu].map((browser) => browser?.close()));
  site?.server.close();
  rmSync(folder, { recursive: true, force: true });
});

function chromiumPath() {
  return process.env.CHROMIUM ?? execFileSync("sh", ["-c", "command -v chromium || command -v google-chrome"]).toString().trim();
}

/** The page with the given wishes in its address; closed when the test ends. */
async function open(t, browser, query, { address = site.address, viewport = { width: 1280, height: 800 }, ...rest } = {}) {
  const page = await browser.newPage({ viewport, acceptDownloads: true, ...rest });
  page.setDefaultTimeout(LONG);
  t.after(() => page.close());
  page.on("pageerror", (error) => console.error(`page: ${error.message}`));
  await page.goto(`${address}?${query}`);
  return page;
}

async function status(page, pattern) {
  await page.waitForFunction((text) => new RegExp(text).test(document.getElementById("status").textContent), pattern, { timeout: LONG });
}

/** Opens a file in the page through its file picker. */
async function give(page, button, name, bytes) {
  const chooser = page.waitForEvent("filechooser");
  await page.click(`.panel [data-do=${button}]`);
  await (await chooser).setFiles({ name, mimeType: "", buffer: bytes });
}

async function message(page, pattern) {
  const told = (text) =>
    new RegExp(text, "i").test(document.getElementById("message-text").textContent) && !document.getElementById("message").hidden;
  await page.waitForFunction(told, pattern);
}

/** Waits until an attribute of an element has a value: what follows an action may be a moment late on a busy machine. */
async function attribute(page, selector, name, value) {
  await page.locator(`${selector}[${name}="${value}"]`).waitFor({ state: "attached" });
}

async function save(page) {
  const download = page.waitForEvent("download");
  await page.click("#save");
  return download;
}

/** Grey levels of what the view shows on one of its sides. */
async function grey(page, side) {
  const values = await page.evaluate((name) => {
    const { data } = document.getElementById("view")[name];
    return Array.from({ length: data.length / 4 }, (_, pixel) => data[4 * pixel]);
  }, side);
  return Uint8Array.from(values);
}

function largestDifference(a, b) {
  assert.equal(a.length, b.length);
  return a.reduce((largest, value, index) => Math.max(largest, Math.abs(value - b[index])), 0);
}

/** What the native command (built by Cargo, or the one that SONOLUME names) makes of a picture on the CPU. */
function native(name) {
  const output = join(folder, `native-${name}.png`);
  const built = process.env.SONOLUME;
  const [command, ...start] = built ? [built] : ["cargo", "run", "--quiet", "--features", "cli", "--"];
  const enhance = ["enhance", join(folder, name), "-o", output, "--device", "cpu"];
  execFileSync(command, [...start, ...enhance], { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  return decode(readFileSync(output));
}

/** A small picture of speckle under a depth gain, the same every time. */
function speckle(width, height, { bits = 8, colour = 0 } = {}) {
  const white = bits === 8 ? 255 : 65535;
  return encode(width, height, { bits, colour }, (x, y, c) => {
    if ((colour === 4 && c === 1) || c === 3) return x < 8 ? 0 : Math.round(white * 0.8);
    const noise = Math.abs(Math.sin(x * 12.9898 + y * 78.233) * 43758.5453) % 1;
    return Math.round(white * noise ** 2 * (1 - (0.6 * y) / height));
  });
}

test("the phantom on WebGPU is what the native CPU makes of it, to one grey level", async (t) => {
  const page = await open(t, withGpu, "device=webgpu");
  await page.waitForFunction(() => document.documentElement.dataset.firstResultMs, undefined, { timeout: LONG });
  const first = await page.evaluate(() => Number(document.documentElement.dataset.firstResultMs));
  t.diagnostic(`page load to first result, software WebGPU: ${first} ms; ${await page.textContent("#status")}`);
  assert.match(await page.textContent("#device"), /swiftshader.*WebGPU/);
  const phantom = readFileSync(join(root, "examples/data/phantom.png"));
  writeFileSync(join(folder, "phantom.png"), phantom);
  const expected = native("phantom.png");
  const found = await grey(page, "enhanced");
  assert.ok(largestDifference(await grey(page, "original"), decode(phantom).bytes) === 0);
  const largest = largestDifference(found, expected.bytes);
  t.diagnostic(`largest difference to the native CPU: ${largest} grey levels`);
  assert.ok(largest <= 1, `${largest} grey levels apart`);
  assert.ok(largestDifference(found, decode(phantom).bytes) > 10, "nothing was enhanced");
});

test("without a GPU the page says so and the CPU does the same work", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  assert.match(await page.textContent("#device"), /WebAssembly.*CPU/);
  assert.match(await page.textContent("#device-reason"), /no GPU.*the same result/);
  const picture = speckle(96, 72);
  writeFileSync(join(folder, "speckle.png"), picture);
  await give(page, "open", "speckle.png", picture);
  await status(page, "enhanced by sonolume-s");
  const largest = largestDifference(await grey(page, "enhanced"), native("speckle.png").bytes);
  assert.ok(largest <= 1, `${largest} grey levels apart`);

  await page.evaluate(() => {
    const strength = document.getElementById("strength");
    strength.value = 0;
    strength.dispatchEvent(new Event("input"));
    document.querySelector("input[value=difference]").click();
  });
  await page.waitForFunction(() => document.getElementById("view").difference);
  assert.equal(largestDifference(await grey(page, "enhanced"), decode(picture).bytes), 0, "strength 0 changes pixels");
  assert.ok((await grey(page, "difference")).every((level) => level === 128));
});

test("browsers with relaxed SIMD and without it show the same picture, to one grey level", async (t) => {
  const older = join(folder, "older");
  cpSync(SITE, older, { recursive: true });
  const worker = join(older, "sonolume/worker.js");
  const script = readFileSync(worker, "utf8");
  writeFileSync(worker, script.replace("WebAssembly.validate(RELAXED_SIMD)", "false"));
  const other = await serve(0, older);
  t.after(() => other.server.close());
  const picture = speckle(96, 72);
  const results = [];
  for (const [address, name] of [[site.address, "relaxed SIMD"], [other.address, "SIMD"]]) {
    const page = await open(t, withoutGpu, "start=empty", { address });
    await status(page, "ready");
    assert.match(await page.textContent("#device"), new RegExp(`WebAssembly ${name} on the CPU`));
    await give(page, "open", "speckle.png", picture);
    await status(page, "enhanced by sonolume-s");
    results.push(await grey(page, "enhanced"));
  }
  const largest = largestDifference(...results);
  assert.ok(largest <= 1, `${largest} grey levels apart`);
});

test("the phantom on the CPU, from page load", async (t) => {
  const page = await open(t, withoutGpu, "");
  await page.waitForFunction(() => document.documentElement.dataset.firstResultMs, undefined, { timeout: LONG });
  const first = await page.evaluate(() => Number(document.documentElement.dataset.firstResultMs));
  t.diagnostic(`page load to first result, CPU: ${first} ms; ${await page.textContent("#status")}`);
});

test("a page that is not secure says why there is no WebGPU", async (t) => {
  const page = await open(t, withoutGpu, "start=empty", { address: site.address.replace("127.0.0.1", "plain.test") });
  await status(page, "ready");
  assert.match(await page.textContent("#device-reason"), /only to pages from https/);
});

test("a long run is stopped, and the page never freezes", async (t) => {
  const page = await open(t, withGpu, "device=webgpu&start=empty");
  await status(page, "ready");
  await page.evaluate(() => {
    window.longestPause = 0;
    window.ticks = 0;
    let last = performance.now();
    setInterval(() => {
      const now = performance.now();
      const enhancing = document.getElementById("status").textContent === "Enhancing…";
      if (enhancing && ++window.ticks > 1) window.longestPause = Math.max(window.longestPause, now - last);
      last = now;
    }, 20);
  });
  await give(page, "open", "large.png", encode(4096, 4096, {}, (x, y) => (x ^ y) & 255));
  await page.waitForSelector("#stop", { state: "visible" });
  // No bound in milliseconds would hold on a busy machine; a page that does the work itself has no ticks at all.
  await page.waitForFunction(() => window.ticks > 100 && !document.getElementById("work").hidden);
  const pause = await page.evaluate(() => window.longestPause);
  t.diagnostic(`longest pause of the page in 100 ticks of a 4096x4096 run: ${pause.toFixed(0)} ms`);

  await give(page, "weights", "half.safetensors", readFileSync(join(root, "weights/sonolume-s.safetensors")).subarray(0, 9999));
  await message(page, "half.safetensors: not a valid safetensors file");
  assert.ok(await page.isVisible("#work"), "weights that are none end the run");
  await page.click("#message-close");

  const stage = await page.locator(".stage").boundingBox();
  for (const way of ["mouse", "keyboard"]) {
    if (way === "mouse") await page.click("#stop");
    else await page.press("#stop", "Enter");
    await status(page, "Stopped");
    await page.waitForSelector("#work", { state: "hidden" });
    assert.ok(await page.isDisabled("#save"));
    assert.deepEqual(await page.locator(".stage").boundingBox(), stage, "the picture jumps");
    assert.equal(await page.evaluate(() => document.activeElement.id), "view", "the focus is lost with the button");
    await page.click("#again");
    await page.waitForSelector("#stop", { state: "visible" });
  }
});

test("a large picture holds the page for no longer than a small one", async (t) => {
  const file = join(folder, "large.png");
  writeFileSync(file, encode(4096, 4096, {}, (x, y) => (x ^ y) & 255));
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  await page.evaluate(() => {
    window.answer = new ImageData(4096, 4096);
    new Uint32Array(window.answer.data.buffer).fill(0xff808080);
  });
  // Time depends on what else runs; how much a canvas is asked to take in or to draw from at once does not.
  await page.evaluate(() => {
    window.mostPixels = 0;
    for (const method of ["putImageData", "drawImage"]) {
      const original = CanvasRenderingContext2D.prototype[method];
      CanvasRenderingContext2D.prototype[method] = function (source, ...rest) {
        window.mostPixels = Math.max(window.mostPixels, this.canvas.width * this.canvas.height, method === "drawImage" ? source.width * source.height : 0);
        return original.call(this, source, ...rest);
      };
    }
  });
  const frames = () => page.evaluate(async () => {
    for (let i = 0; i < 5; i++) await new Promise((resolve) => requestAnimationFrame(resolve));
  });
  const middle = () => page.evaluate(() => {
    const canvas = document.getElementById("view").shadowRoot.querySelector("canvas");
    return canvas.getContext("2d").getImageData(canvas.width / 2 + 40, canvas.height / 2, 1, 1).data[0];
  });
  await withoutGpu.startTracing(page, { categories: ["toplevel", "disabled-by-default-devtools.timeline", "__metadata"] });
  const chooser = page.waitForEvent("filechooser");
  await page.click(".panel [data-do=open]");
  await (await chooser).setFiles(file);
  await status(page, "Enhancing");
  await page.waitForFunction(() => document.getElementById("view").shadowRoot.querySelector(".zoom").textContent !== "");
  await page.evaluate(() => void (document.getElementById("view").enhanced = window.answer));
  await page.waitForFunction(() => document.getElementById("view").shadowRoot.querySelector(".right").checkVisibility());
  await frames();
  for (const factor of [2, 4]) {
    await page.evaluate((by) => document.getElementById("view").zoomBy(by), factor);
    await frames();
  }
  const { traceEvents } = JSON.parse(await withoutGpu.stopTracing());
  assert.equal(await middle(), 128, "the answer is not drawn");
  const main = new Set(traceEvents.filter(({ args }) => args?.name === "CrRendererMain").map(({ pid, tid }) => `${pid}/${tid}`));
  const tasks = traceEvents.filter(({ name, tdur, pid, tid }) => name === "RunTask" && tdur && main.has(`${pid}/${tid}`));
  assert.ok(tasks.length > 100, "the trace has no tasks");
  const longest = Math.max(...tasks.map(({ tdur }) => tdur / 1000));
  const wall = Math.max(...tasks.map(({ dur }) => dur / 1000));
  const pixels = await page.evaluate(() => window.mostPixels);
  t.diagnostic(`longest of ${tasks.length} tasks of the page while it opens, compares and zooms 4096x4096: ${wall.toFixed(0)} ms, ` +
    `${longest.toFixed(0)} ms of its own processor time; largest canvas: ${pixels} pixels`);
  assert.ok(pixels <= 1280 * 800, `a canvas of ${pixels} pixels`);
  assert.ok(longest < 100, `a task of ${longest} ms`);
});

test("a large picture is drawn in tiles as it would be in one piece", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  const found = await page.evaluate(async () => {
    const { Pyramid, halveRow } = await import(new URL("pyramid.js", location.href).href);
    const image = new ImageData(1701, 1299); // odd, and several tiles
    for (let i = 0; i < image.data.length; i++) {
      const [x, y] = [(i >> 2) % 1701, Math.floor((i >> 2) / 1701)];
      // Slopes that tell a pixel beside the right one, but not the fraction of one that browsers may round away.
      image.data[i] = i % 4 === 3 ? 255 : 128 + 60 * Math.sin(x / 9) + 60 * Math.cos(y / 9 + (i % 4));
    }
    const levels = [image];
    for (let from = image; from.width > 512; levels.push(from)) {
      const half = new ImageData(Math.ceil(from.width / 2), Math.ceil(from.height / 2));
      for (let row = 0; row < half.height; row++) halveRow(from, half, row);
      from = half;
    }
    const pyramid = new Pyramid(image);
    const before = pyramid.built;
    await pyramid.build();
    const canvas = () => Object.assign(document.createElement("canvas"), { width: 900, height: 700 }).getContext("2d");
    const largest = {};
    for (const [level, scale] of [[0, 1], [0, 2.3], [0, 0.6], [1, 0.4], [1, 0.5], [2, 0.23]]) {
      const [drawn, expected, whole] = [canvas(), canvas(), document.createElement("canvas")];
      const place = scale === 1 ? { x: -300, y: -400, scale } : { x: -13.4, y: 7.7, scale };
      while (!pyramid.draw(drawn, place, { left: 0, top: 0, right: 900, bottom: 700 })) drawn.clearRect(0, 0, 900, 700);
      const { width, height } = Object.assign(whole, { width: levels[level].width, height: levels[level].height });
      whole.getContext("2d").putImageData(levels[level], 0, 0);
      expected.imageSmoothingQuality = scale < 1 ? "low" : "high";
      expected.drawImage(whole, place.x, place.y, width * 2 ** level * scale, height * 2 ** level * scale);
      // Edges of the picture fall on whole canvas pixels.
      const [x, y] = [Math.max(Math.ceil(place.x), 0) + 1, Math.max(Math.ceil(place.y), 0) + 1];
      const [right, bottom] = [place.x + 1701 * scale, place.y + 1299 * scale].map((edge, axis) => Math.min(Math.floor(edge) - 1, [900, 700][axis]));
      const [a, b] = [drawn, expected].map((context) => context.getImageData(x, y, right - x, bottom - y).data);
      largest[scale] = a.reduce((most, value, index) => Math.max(most, Math.abs(value - b[index])), 0);
    }
    return { before, largest };
  });
  assert.equal(found.before, false);
  assert.equal(found.largest[1], 0, "pixels that fall on pixels are changed");
  t.diagnostic(`levels apart, by scale: ${JSON.stringify(found.largest)}`);
  for (const [scale, largest] of Object.entries(found.largest)) assert.ok(largest <= 2, `${largest} levels apart at ${scale}`);
});

test("one pixel per pixel shows the picture's own pixels, wherever it is moved", async (t) => {
  const page = await open(t, withoutGpu, "start=empty", { viewport: { width: 1281, height: 801 } });
  await status(page, "ready");
  await give(page, "open", "scan.png", speckle(240, 181));
  await status(page, "enhanced by sonolume-s");
  await page.focus("#view");
  await page.keyboard.press("1");
  await page.evaluate(() => (document.getElementById("view").look = "original"));
  const different = await page.evaluate(async () => {
    for (let i = 0; i < 3; i++) await new Promise((resolve) => requestAnimationFrame(resolve));
    const view = document.getElementById("view");
    const canvas = view.shadowRoot.querySelector("canvas");
    const { width, height, data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const first = data.findIndex((value, index) => index % 4 === 3 && value > 0) >> 2;
    const [left, top] = [first % width, Math.floor(first / width)];
    if (left + 240 > width || top + 181 > height) return "the picture is not there";
    const { data: own } = view.original;
    let count = 0;
    for (let y = 0; y < 181; y++) {
      for (let x = 0; x < 240; x++) count += Number(data[4 * ((top + y) * width + left + x)] !== own[4 * (y * 240 + x)]);
    }
    return count;
  });
  assert.equal(different, 0);
});

test("halving takes the mean of four pixels, colours by their alpha", async () => {
  const { halveRow } = await import("../site/pyramid.js");
  const picture = (width, height, pixels) => ({ width, height, data: Uint8ClampedArray.from(pixels.flat()) });
  const from = picture(3, 2, [
    [10, 0, 255, 255], [20, 0, 255, 255], [7, 8, 9, 255],
    [30, 1, 255, 255], [41, 1, 254, 255], [99, 200, 30, 0],
  ]);
  const to = picture(2, 1, [0, 0, 0, 0, 0, 0, 0, 0]);
  halveRow(from, to, 0);
  assert.deepEqual([...to.data], [25, 1, 255, 255, 7, 8, 9, 128]);
});

test("an abort stops the worker between tiles, and it works on", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  const found = await page.evaluate(async () => {
    const { loadEnhancer } = await import("sonolume");
    // Tiles as small as the generator allows.
    const enhancer = await loadEnhancer({ device: "cpu", memoryLimit: 1 });
    const image = new ImageData(256, 128);
    const abort = new AbortController();
    const shares = [];
    const onProgress = (share) => (shares.push(share), abort.abort());
    const reason = await enhancer.enhance(image, { signal: abort.signal, onProgress }).catch((error) => error.name);
    const again = await enhancer.enhance(new ImageData(32, 32));
    enhancer.close();
    const closed = await enhancer.enhance(image).catch((error) => error.name);
    return { reason, shares, size: [again.image.width, again.image.height], closed };
  });
  assert.equal(found.reason, "AbortError");
  assert.equal(found.shares.length, 1, `tiles went on: ${found.shares}`);
  assert.ok(found.shares[0] < 1);
  assert.deepEqual(found.size, [32, 32]);
  assert.equal(found.closed, "OptionsError");
});

test("wrong weights and wrong pictures are told, and the page stays usable", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  await give(page, "weights", "notes.safetensors", Buffer.from("these are not weights"));
  await message(page, "safetensors");
  await status(page, "Still using sonolume-s");

  const header = Buffer.from(JSON.stringify({ "encoder.weight": { dtype: "F32", shape: [1], data_offsets: [0, 4] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  await give(page, "weights", "stranger.safetensors", Buffer.concat([length, header, Buffer.alloc(4)]));
  await message(page, "no architecture that sonolume knows");
  assert.equal(await page.inputValue("#model"), "sonolume-s");

  await give(page, "open", "letter.png", Buffer.from("Dear colleague, this is a letter."));
  await message(page, "letter.png: .*format is not recognised");
  await give(page, "open", "scan.dcm", Buffer.concat([Buffer.alloc(128), Buffer.from("DICM"), Buffer.alloc(99)]));
  await message(page, "scan.dcm: DICOM files are not read");
  await give(page, "open", "vast.png", pack(17_000, 16_000, {}, Buffer.alloc(17_001 * 16_000)));
  await message(page, "17000x16000 pixels are too many");
  const picture = speckle(64, 48);
  await give(page, "open", "half.png", picture.subarray(0, picture.length / 2));
  await message(page, "cannot be decoded");
  await status(page, "Nothing is open");
  assert.ok(await page.isHidden("#again"));

  await give(page, "open", "whole.png", picture);
  await status(page, "enhanced by sonolume-s");
  assert.ok(await page.isHidden("#message"));
});

test("WebGPU that is wished for and missing is told, and another choice opens the picture", async (t) => {
  const page = await open(t, withoutGpu, "device=webgpu");
  await message(page, "no GPU.*The CPU works without it");
  await page.selectOption("#device-choice", "cpu");
  await status(page, "enhanced by sonolume-s");
  await page.selectOption("#device-choice", "webgpu");
  await message(page, "no GPU.*The CPU works without it");
  await status(page, "Still using sonolume-s");
  assert.equal(await page.inputValue("#device-choice"), "cpu");
});

test("a worker that dies is told, and the next picture starts another", async (t) => {
  const page = await open(t, withoutGpu, "");
  await status(page, "enhanced by sonolume-s");
  // What an allocation that fails comes to.
  await page.workers()[0].evaluate(() => setTimeout(() => { throw new Error("unreachable"); }));
  await page.evaluate(() => {
    const strength = document.getElementById("strength");
    const poke = () => {
      if (!document.getElementById("message").hidden) return;
      strength.dispatchEvent(new Event("input"));
      setTimeout(poke, 20);
    };
    poke();
  });
  await message(page, "the worker stopped.*unreachable");
  await page.waitForSelector("#empty", { state: "visible" });
  assert.ok(await page.isDisabled("#save"));
  await give(page, "open", "scan.png", speckle(64, 48));
  await status(page, "64 × 48 enhanced by sonolume-s");
  assert.ok(await page.isHidden("#message"));
});

test("a picture of one pixel fits without being blown up, and nothing is called a difference that is none", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  await give(page, "open", "dot.png", encode(1, 1, {}, () => 99));
  await status(page, "1 × 1 enhanced");
  const read = (selector) => page.evaluate((at) => document.getElementById("view").shadowRoot.querySelector(at).textContent, selector);
  assert.equal(await read(".zoom"), "3200 %");
  await page.evaluate(() => (document.getElementById("view").look = "difference"));
  assert.equal(await read(".left"), "Enhanced");
});

test("a phone has everything within its screen", async (t) => {
  const page = await open(t, withoutGpu, "", { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  await status(page, "enhanced by sonolume-s");
  assert.ok(await page.isVisible("text=Pinch to zoom") && !(await page.isVisible("text=Wheel")), "a phone is told of keys and wheels");
  await give(page, "weights", "stranger.safetensors", Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]), Buffer.from("{}")]));
  await message(page, "stranger.safetensors");
  // As long as messages get.
  await page.evaluate(() => (document.getElementById("message-text").textContent = "no such architecture ".repeat(40)));
  const [stage, box] = await Promise.all([".stage", "#message"].map((selector) => page.locator(selector).boundingBox()));
  assert.ok(box.y + box.height <= stage.y + stage.height, "the message runs out of the stage");
  await page.click("#message-close");
  await page.click("[data-do=camera]");
  await page.waitForFunction(() => Number(document.getElementById("live-rate").textContent) > 0);
  const bar = await page.locator("#live-figures").boundingBox();
  assert.ok(bar.x >= 0 && bar.x + bar.width <= 390 && bar.height < 100, `live figures at ${JSON.stringify(bar)}`);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
});

test("a phone on its side leaves room for the controls", async (t) => {
  const page = await open(t, withoutGpu, "start=empty", { viewport: { width: 844, height: 390 }, hasTouch: true, isMobile: true });
  await status(page, "ready");
  await page.locator("#strength").scrollIntoViewIfNeeded();
  const shown = await page.evaluate(() => {
    const { left, top, width, height } = document.getElementById("strength").getBoundingClientRect();
    return document.elementFromPoint(left + width / 2, top + height / 2).id;
  });
  assert.equal(shown, "strength");
  const room = await page.evaluate(() => {
    scrollTo(0, document.body.scrollHeight);
    return document.querySelector(".room").getBoundingClientRect().bottom;
  });
  assert.ok(room < 390 / 2, `the viewer covers ${room} of 390 pixels`);
});

test("other weights are loaded, and the open picture is enhanced again", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  await give(page, "open", "scan.png", speckle(64, 48));
  await status(page, "enhanced by sonolume-s");
  await give(page, "weights", "mine.safetensors", readFileSync(join(root, "weights/sonolume-s.safetensors")));
  await status(page, "enhanced by mine");
  assert.equal(await page.inputValue("#model"), "file/mine.safetensors");
});

test("the choice of a view moves no other control", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  const places = () => page.evaluate(() => [...document.querySelectorAll(".choice label")].map((label) => label.getBoundingClientRect().toJSON()));
  const before = await places();
  for (const look of ["difference", "enhanced", "original", "split"]) {
    await page.check(`input[value=${look}]`, { force: true });
    assert.deepEqual(await places(), before, look);
  }
});

test("dropped and pasted pictures are opened", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  for (const [way, kind] of [["drop", "DragEvent"], ["paste", "ClipboardEvent"]]) {
    const bytes = [...speckle(40, 30)];
    await page.evaluate(([way, kind, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], `${way}.png`, { type: "image/png" }));
      const carrier = { dataTransfer: data, clipboardData: data, bubbles: true, cancelable: true };
      document.body.dispatchEvent(new window[kind](way, carrier));
    }, [way, kind, bytes]);
    await page.waitForFunction((name) => document.getElementById("picture-fact").textContent.startsWith(`${name}.png`), way);
    await status(page, "enhanced by sonolume-s");
  }
});

test("the saved file keeps 16 bits and alpha, and has a name of its own", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  const picture = speckle(64, 48, { bits: 16, colour: 6 });
  await give(page, "open", "scan 7.png", picture);
  await status(page, "enhanced by sonolume-s");
  const file = await save(page);
  assert.equal(file.suggestedFilename(), "scan 7-enhanced-sonolume-s.png");
  const saved = decode(readFileSync(await file.path()));
  const original = decode(picture);
  assert.deepEqual([saved.width, saved.height, saved.bits, saved.colour], [64, 48, 16, 6]);
  const alpha = ({ bytes }) => bytes.filter((_, index) => index % 8 >= 6);
  assert.deepEqual(alpha(saved), alpha(original));
  assert.notDeepEqual(saved.bytes, original.bytes);
});

test("live mode shows frames with their rate and latency, and lets go of the camera", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  await page.click("[data-do=camera]");
  await page.waitForFunction(() => Number(document.getElementById("live-rate").textContent) > 0);
  assert.ok(Number(await page.textContent("#live-latency")) > 0);
  t.diagnostic(`camera at 320 pixels on the CPU: ${await page.textContent("#live-figures")}`.replace(/\s+/g, " "));
  await page.click("#live-end");
  await page.waitForSelector("#live-figures", { state: "hidden" });
  await status(page, "enhanced by sonolume-s");
});

test("live mode shows differences, holds a frame as a picture, and goes on with another generator", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  await page.click("[data-do=camera]");
  await page.check("input[value=difference]", { force: true });
  await page.waitForFunction(() => document.getElementById("view").difference);
  await page.click("#live-pause");
  await attribute(page, "#live-pause", "aria-pressed", "true");
  await status(page, "enhanced by sonolume-s");
  await page.fill("#strength", "40");
  assert.equal((await save(page)).suggestedFilename(), "live-frame-enhanced-sonolume-s-40pct.png");

  await give(page, "weights", "mine.safetensors", readFileSync(join(root, "weights/sonolume-s.safetensors")));
  await status(page, "enhanced by mine");
  await page.click("#live-pause");
  await status(page, "Live: mine");
  await page.selectOption("#model", "sonolume-s");
  await status(page, "Live: sonolume-s");
  await page.waitForFunction(() => !document.getElementById("save").disabled);
  await page.click("#live-end");
  await status(page, "enhanced by sonolume-s");

  // What cannot be played leaves the picture that is open.
  await give(page, "video", "notes.mkv", Buffer.from("not a video"));
  await message(page, "cannot play that video file");
  assert.equal((await save(page)).suggestedFilename(), "live-frame-enhanced-sonolume-s-40pct.png");
});

test("a video file plays, and one that is none is told", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  await give(page, "video", "notes.mp4", Buffer.from("not a video"));
  await message(page, "cannot play that video file");
  const recorded = await page.evaluate(async () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 96, height: 64 });
    const context = canvas.getContext("2d");
    const recorder = new MediaRecorder(canvas.captureStream(20), { mimeType: "video/webm" });
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.start();
    for (let i = 0; i < 20; i++) {
      context.fillStyle = `hsl(0 0% ${i * 5}%)`;
      context.fillRect(0, 0, 96, 64);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await new Promise((resolve) => ((recorder.onstop = resolve), recorder.stop()));
    return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
  });
  await give(page, "video", "loop.webm", Buffer.from(recorded));
  await page.waitForFunction(() => document.getElementById("view").enhanced?.width === 96);
  await page.click("#live-pause");
  await attribute(page, "#live-pause", "aria-pressed", "true");
});

test("the keyboard reaches everything, and axe finds no barrier", async (t) => {
  const page = await open(t, withoutGpu, "start=empty");
  await status(page, "ready");
  await give(page, "open", "scan.png", speckle(64, 48));
  await status(page, "enhanced by sonolume-s");
  await page.focus("compare-view [role=slider]");
  await page.keyboard.press("ArrowLeft");
  await attribute(page, "compare-view [role=slider]", "aria-valuenow", "48");
  await page.keyboard.down("o");
  await attribute(page, "#hold", "aria-pressed", "true");
  await page.keyboard.up("o");
  await attribute(page, "#hold", "aria-pressed", "false");
  await page.focus("#hold");
  await page.keyboard.down("Space");
  await attribute(page, "#hold", "aria-pressed", "true");
  await page.keyboard.up("Space");
  await attribute(page, "#hold", "aria-pressed", "false");

  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => window.axe.run());
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html)}`), []);
});

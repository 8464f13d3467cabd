// Builds the npm package (dist/) and the page (site/): `node tools/build.mjs`. With `--keep-module`, only what is
// TypeScript, from the WebAssembly module that is there.

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const root = join(web, "../..");
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");

function run(command, args, options = {}) {
  execFileSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], ...options });
}

function has(command) {
  try {
    execFileSync(command, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

function buildModule() {
  if (has("rustup")) run("rustup", ["target", "add", "wasm32-unknown-unknown"], { stdio: "ignore" });
  const flags = { CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS: "-C target-feature=+simd128" };
  run("cargo", ["build", "--quiet", "--profile", "web", "--target", "wasm32-unknown-unknown", "-p", "sonolume-web"], {
    env: { ...process.env, ...flags },
  });
  const glue = join(web, "js/wasm");
  const module = join(target, "wasm32-unknown-unknown/web/sonolume_web.wasm");
  run("cargo", ["run", "--quiet", "--release", "-p", "sonolume-web-bindgen", "--", module, glue]);
}

function buildPackage() {
  const dist = join(web, "dist");
  rmSync(dist, { recursive: true, force: true });
  compile("tsconfig.json");
  mkdirSync(join(dist, "wasm"), { recursive: true });
  for (const name of ["sonolume_web.js", "sonolume_web.d.ts", "sonolume_web_bg.wasm"]) {
    cpSync(join(web, "js/wasm", name), join(dist, "wasm", name));
  }
}

function buildPage() {
  const site = join(web, "site");
  rmSync(site, { recursive: true, force: true });
  compile("page/tsconfig.json");
  for (const name of ["index.html", "style.css"]) cpSync(join(web, "page", name), join(site, name));
  cpSync(join(web, "dist"), join(site, "sonolume"), { recursive: true, filter: (path) => !path.endsWith(".d.ts") });
  cpSync(join(root, "examples/data/phantom.png"), join(site, "phantom.png"));
  // Every generator of weights/ but the one that is built in.
  const weights = join(root, "weights");
  const names = readdirSync(weights).filter((name) => name.endsWith(".safetensors") && name !== "sonolume-s.safetensors");
  for (const name of names) cpSync(join(weights, name), join(site, "models", name));
  writeFileSync(join(site, "models.json"), JSON.stringify(names));
}

function compile(project) {
  run(process.execPath, [join(web, "node_modules/typescript/bin/tsc"), "-p", join(web, project)]);
}

function report() {
  const module = readFileSync(join(web, "dist/wasm/sonolume_web_bg.wasm"));
  const brotli = brotliCompressSync(module, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } });
  const scripts = ["index.js", "worker.js", "wasm/sonolume_web.js"].map((name) => statSync(join(web, "dist", name)).size);
  const size = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
  const [plain, gzip] = [module.length, gzipSync(module, { level: 9 }).length];
  console.log(`module with weights: ${size(plain)}, gzip ${size(gzip)}, brotli ${size(brotli.length)}`);
  console.log(`scripts: ${size(scripts.reduce((sum, bytes) => sum + bytes, 0))}`);
}

if (!existsSync(join(web, "node_modules/typescript"))) {
  run("npm", ["ci", "--no-audit", "--no-fund"], { cwd: web });
}
if (!process.argv.includes("--keep-module")) buildModule();
buildPackage();
buildPage();
report();

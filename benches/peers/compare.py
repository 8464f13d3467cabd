"""Runs generators in every runtime, interleaved, and prints how long each takes as a ratio to sonolume.

    ./run [--only cpu,vulkan,browser,cuda] [--generators NAME,...] [--sizes 256x256,...] [--rounds N] [--json FILE]

Every runtime is a process of its own. All are loaded first, each one's answer is compared with PyTorch's, then they take
turns: in each round every runtime runs for about the same time, alone. A ratio is a peer's median time in a round by
sonolume's in the same round; the table has the median of the rounds' ratios, the smallest and the largest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
# Largest error, as a share of the largest value of PyTorch's answer. In f32 Winograd's transforms cost digits.
# Pictures are rounded to their levels, and cut at black and white.
TOLERANCE = {"f32": 1e-3, "f16": 3e-2, "bf16": 1e-1, "8 bit": 4e-3}
# The Vulkan layer of `rust/device-memory`.
LAYER = "VK_LAYER_SONOLUME_device_memory"


@dataclass
class Runtime:
    """One way to run a generator; `needs` is the format it loads, `program` a Rust worker or `python`."""

    key: str
    program: str
    model: str
    options: dict[str, str] = field(default_factory=dict)
    needs: str | None = None
    only: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def precision(self):
        return self.options.get("precision", "f32")


def runtimes(group: str, vulkan_device: str) -> list[Runtime]:
    """The first is sonolume, which the others are compared with."""
    python = lambda key, name, options={}, **more: Runtime(key, "python", name, options, **more)
    if group == "cpu":
        variants = []
        for key, name, options in (
            ("onnxruntime", "onnxruntime", {}),
            ("openvino", "openvino", {"precision": "f32"}),
            ("openvino-bf16", "openvino", {"precision": "bf16"}),
        ):
            variants.append(python(key, name, options, needs="onnx"))
        return [
            Runtime("sonolume", "sonolume-worker", "model.safetensors", {"device": "cpu"}),
            *variants,
            python("ncnn", "ncnn", needs="ncnn"),
            python("torch", "torch"),
            Runtime("tract", "tract-worker", "model.onnx", needs="onnx"),
        ]
    if group == "vulkan":
        return [
            Runtime("sonolume", "sonolume-worker", "model.safetensors", {"device": vulkan_device}),
            Runtime("sonolume-f16", "sonolume-worker", "model.safetensors", {"device": vulkan_device, "precision": "f16"}),
            python("ncnn-vulkan", "ncnn", {"device": "vulkan"}, needs="ncnn"),
            python("ncnn-vulkan-f16", "ncnn", {"device": "vulkan", "precision": "f16"}, needs="ncnn"),
            Runtime("burn", "burn-worker", "model.safetensors", only=("sonolume-s", "srvgg-64x16")),
        ]
    if group == "browser":
        node = lambda key, runtime, device, needs=None: Runtime(
            key, "node", "browser", {"runtime": runtime, "device": device, "precision": "8 bit" if runtime == "sonolume" else "f32"}, needs
        )
        return [
            node("sonolume", "sonolume", "webgpu"),
            node("sonolume-wasm", "sonolume", "wasm"),
            node("ort-web-webgpu", "onnxruntime", "webgpu", "onnx"),
            node("ort-web-wasm", "onnxruntime", "wasm", "onnx"),
        ]
    cuda = [
        python(f"torch-{name}-{precision}", "torch", {"device": "cuda", "mode": mode, "precision": precision})
        for name, mode in (("eager", "eager"), ("compiled", "default"), ("graphs", "reduce-overhead"), ("tuned", "max-autotune"))
        for precision in ("f16", "f32")
    ]
    return [
        Runtime("sonolume", "sonolume-worker", "model.safetensors", {"device": vulkan_device, "precision": "f16"}),
        Runtime("sonolume-f32", "sonolume-worker", "model.safetensors", {"device": vulkan_device}),
        *cuda,
    ]


class Worker:
    """A runtime's process."""

    def __init__(self, runtime: Runtime, folder: Path, image: tuple[int, ...], generator: str, programs: Path):
        self.runtime = runtime
        self.output = folder / f"output-{runtime.key}.f32"
        self.in_browser = runtime.program == "node"
        arguments = [folder / "input.f32", self.output, *image[1:]]
        if runtime.program == "node":
            command = ["node", HERE / "browser" / "worker.mjs", folder, *arguments]
        elif runtime.program == "python":
            command = [sys.executable, HERE / "worker.py", runtime.model, folder, *arguments, f"generator={generator}"]
        else:
            command = [programs / runtime.program, folder / runtime.model, *arguments, f"generator={generator}"]
        command += [f"{key}={value}" for key, value in runtime.options.items()]
        self.errors = (folder / f"{runtime.key}.log").open("w")
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env=os.environ | {"RUST_BACKTRACE": "0"} | runtime.environment,
        )

    def line(self, timeout: float) -> str:
        """What it says next; empty if it ended or took longer than that, in which case it is stopped."""
        timer = threading.Timer(timeout, self.process.kill)
        timer.start()
        text = self.process.stdout.readline().strip()
        timer.cancel()
        return text

    def load(self, timeout: float):
        """(milliseconds to the first result, name)."""
        self.line(timeout)
        self.bare = self.memory("VmRSS")
        words = self.line(timeout).split(maxsplit=2)
        if not words or words[0] != "ready":
            self.process.kill()
            self.process.wait()
            self.errors.flush()
            said = [line for line in Path(self.errors.name).read_text().splitlines() if line.strip()]
            raise RuntimeError(said[-1][:200] if said else f"no answer within {timeout:.0f} s")
        return float(words[1]), words[2]

    def turn(self, runs: int, timeout: float = 600) -> list[float]:
        self.process.stdin.write(f"{runs}\n")
        self.process.stdin.flush()
        return [float(word) for word in self.line(timeout).split()]

    def report(self) -> dict:
        self.process.stdin.write("report\n")
        self.process.stdin.flush()
        return json.loads(self.line(60) or "{}")

    def memory(self, key: str) -> int:
        """Bytes, as the kernel counts them; 0 where there is no /proc."""
        try:
            text = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0
        return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(key + ":")), 0)

    def seconds(self) -> float:
        """Processor time so far; 0 where there is no /proc."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def busy_seconds() -> float:
    """Processor time that all processes of the machine took so far; 0 where there is no /proc."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    except OSError:
        return 0.0
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def device_memory(runtime: Runtime, folder: Path, image: tuple[int, ...], generator: str, options) -> dict:
    """The most device memory that the runtime allocates, in a process of its own: the layer must not disturb a timed one."""
    library = options.programs.resolve() / "libdevice_memory.so"
    if not library.exists():
        return {}
    manifest = {
        "name": LAYER, "type": "GLOBAL", "library_path": str(library), "api_version": "1.4.0",
        "implementation_version": "1", "description": "Counts what a process allocates on its devices",
    }
    layers = options.work.resolve() / "layers"
    layers.mkdir(exist_ok=True)
    (layers / "device-memory.json").write_text(json.dumps({"file_format_version": "1.2.0", "layer": manifest}))
    answer = folder.resolve() / f"device-memory-{runtime.key}.txt"
    answer.unlink(missing_ok=True)
    counted = {"VK_LAYER_PATH": str(layers), "VK_INSTANCE_LAYERS": LAYER, "PEERS_DEVICE_MEMORY_FILE": str(answer)}
    try:
        worker = Worker(replace(runtime, environment=runtime.environment | counted), folder, image, generator, options.programs)
        try:
            worker.load(options.timeout)
            # What the first run has left may not be enough for the ones after it.
            worker.turn(2)
        finally:
            worker.close()
        every, local = map(int, answer.read_text().split())
    # A runtime that makes no device leaves the file empty.
    except (OSError, RuntimeError, ValueError) as problem:
        print(f"{generator} {runtime.key}: device memory not counted: {problem}", file=sys.stderr)
        return {}
    return {"peak_device_local_bytes": local, "peak_device_all_bytes": every}


def error(folder: Path, worker: Worker, precision: str) -> float:
    """The largest error as a share of the largest value; NaN counts as infinite."""
    expected, actual = (np.fromfile(path, "<f4") for path in (folder / "expected.f32", worker.output))
    if precision == "8 bit":
        expected = expected.clip(0, 1)
    if expected.shape != actual.shape:
        return float("inf")
    difference = float(np.abs(expected - actual).max()) / float(np.abs(expected).max())
    return difference if difference == difference else float("inf")


def variants(runtime: Runtime, folder: Path) -> list[Runtime]:
    """A runtime once for each ONNX graph there is: `-fused` and `-plain` norms."""
    if runtime.needs != "onnx" or (folder / "model.onnx").exists():
        return [runtime]
    made = []
    for suffix in ("-fused", "-plain"):
        model = runtime.model.replace("model.onnx", f"model{suffix}.onnx")
        made.append(Runtime(runtime.key + suffix, runtime.program, model, runtime.options | {"variant": suffix}, "onnx"))
    return made


def compare(group: str, generator: str, size: tuple[int, int], options) -> dict:
    """One generator at one size in every runtime of a group."""
    folder = options.work / "models" / f"{generator}-{size[1]}x{size[0]}"
    formats = sorted({runtime.needs for runtime in runtimes(group, options.device) if runtime.needs})
    convert = [sys.executable, HERE / "convert.py", folder, generator, *size, *formats]
    if not all((folder / f"{form}.done").exists() for form in formats) or not (folder / "expected.f32").exists():
        subprocess.run([str(part) for part in convert], check=True)
    if options.prepare:
        return {}
    image = tuple(np.loadtxt(folder / "shapes.txt", dtype=int)[0])
    rows, started, workers = [], [], []
    for runtime in [v for r in runtimes(group, options.device) for v in variants(r, folder)]:
        row = {"runtime": runtime.key, "precision": runtime.precision}
        failed = folder / f"{runtime.needs}.failed"
        if runtime.only and generator not in runtime.only:
            continue
        if options.runtimes and not any(runtime.key.startswith(name) for name in options.runtimes.split(",")):
            continue
        rows.append(row)
        if runtime.program.endswith("-worker") and not (options.programs / runtime.program).exists():
            row["failed"] = "not built"
            continue
        if runtime.needs and failed.exists() and not (folder / f"{runtime.needs}.done").exists():
            row["failed"] = failed.read_text().strip()
            continue
        started.append((row, runtime, Worker(runtime, folder, image, generator, options.programs) if options.together else None))
    for row, runtime, worker in started:
        worker = worker or Worker(runtime, folder, image, generator, options.programs)
        try:
            row["first_ms"], row["name"] = worker.load(options.timeout)
            row["error"] = error(folder, worker, runtime.precision)
            if row["error"] > TOLERANCE[runtime.precision]:
                raise RuntimeError(f"wrong: differs from PyTorch by {row['error']:.1e}")
            workers.append((row, worker))
        except RuntimeError as problem:
            row["failed"] = str(problem)
            worker.close()
            print(f"{generator} {runtime.key}: {problem}", file=sys.stderr)
    for row, worker in workers:
        # As many runs as fit a turn, judged by the second run: the first has just made its threads and buffers.
        once = worker.turn(1)[0]
        row["runs"] = max(1, min(200, round(1e3 * options.turn / once)))
        row["rounds_ms"], row["all_ms"] = [], []
    before = busy_seconds(), sum(worker.seconds() for _, worker in workers)
    for _ in range(options.rounds):
        for row, worker in workers:
            times = worker.turn(row["runs"])
            row["rounds_ms"].append(statistics.median(times))
            row["all_ms"].extend(times)
    after = busy_seconds(), sum(worker.seconds() for _, worker in workers)
    others = (after[0] - before[0]) - (after[1] - before[1])
    for row, worker in workers:
        row |= worker.report()
        if not worker.in_browser:
            row["peak_rss_bytes"] = worker.memory("VmHWM")
            row["peak_rss_above_bare_bytes"] = max(worker.memory("VmHWM") - worker.bare, 0)
        worker.close()
    if group == "vulkan":
        for row, worker in workers:
            row |= device_memory(worker.runtime, folder, image, generator, options)
    ours = workers[0][0] if workers and workers[0][0]["runtime"] == "sonolume" else None
    for row, _ in workers:
        row["ms"] = {"median": statistics.median(row["all_ms"]), "min": min(row["all_ms"]), "max": max(row.pop("all_ms"))}
        if ours:
            ratios = [theirs / mine for theirs, mine in zip(row["rounds_ms"], ours["rounds_ms"])]
            row["ratio"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
            if ours.get("peak_device_local_bytes") and "peak_device_local_bytes" in row:
                row["device_ratio"] = row["peak_device_local_bytes"] / ours["peak_device_local_bytes"]
    return {"group": group, "generator": generator, "width": size[1], "height": size[0], "others_s": others, "runtimes": rows}


def table(result: dict) -> str:
    """One comparison in Markdown."""
    gflop = next((row["gflop"] for row in result["runtimes"] if "gflop" in row), None)
    lines = [
        f"\n### {result['generator']}, {result['width']}x{result['height']}, {result['group']}\n",
        "| runtime | ms, median (min to max) | time / sonolume's (spread of rounds) | GFLOP/s | first result, ms "
        "| peak RSS, MiB (above the bare process) | peak device memory, MiB (/ sonolume's) | error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["runtimes"]:
        if "ms" not in row:
            lines.append(f"| {row['runtime']} | {row['failed']} | | | | | | |")
            continue
        ms, ratio = row["ms"], row.get("ratio")
        ratio_text = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})" if ratio else ""
        memory = f"{row['peak_rss_bytes'] >> 20} ({row['peak_rss_above_bare_bytes'] >> 20})" if "peak_rss_bytes" in row else ""
        device = ""
        if "peak_device_local_bytes" in row:
            local, every = (row[key] / (1 << 20) for key in ("peak_device_local_bytes", "peak_device_all_bytes"))
            device = f"{local:.1f}"
            device += f" ({row['device_ratio']:.2f})" if "device_ratio" in row else ""
            device += f"; with the host's {every:.1f}" if every > local else ""
        elif "device_bytes" in row and result["group"] != "cpu":
            device = f"{row['device_bytes'] >> 20}, as it says"
        rate = f"{gflop / ms['median'] * 1e3:.0f}" if gflop else ""
        name = row["runtime"] if row["precision"] == "f32" or "16" in row["runtime"] else f"{row['runtime']} ({row['precision']})"
        lines.append(
            f"| {name} | {ms['median']:.1f} ({ms['min']:.1f} to {ms['max']:.1f}) | {ratio_text} | {rate} "
            f"| {row['first_ms']:.0f} | {memory} | {device} | {row['error']:.0e} |"
        )
    if result["group"] != "browser":
        lines.append(f"\nOther processes of the machine took {max(result['others_s'], 0):.1f} s of processor time meanwhile.")
    return "\n".join(lines)


def processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
        return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="cpu,vulkan", help="groups: cpu, vulkan, browser, cuda")
    parser.add_argument("--generators", default="sonolume-s,srvgg-64x16,mimicknet,cyclegan-resnet9,swinir-light")
    parser.add_argument("--sizes", default="256x256", help="WIDTHxHEIGHT, ...")
    parser.add_argument("--runtimes", default="", help="only those whose names start so; sonolume first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn", type=float, default=0.3, help="seconds that a runtime runs in a round")
    parser.add_argument("--timeout", type=float, default=300, help="seconds that a runtime may take to load")
    parser.add_argument("--together", action="store_true", help="let all load at once: times to the first result then mean little")
    parser.add_argument("--device", default="gpu", help="sonolume's device in the groups vulkan and cuda; `llvmpipe` without a GPU")
    parser.add_argument("--prepare", action="store_true", help="only convert")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--programs", type=Path, required=True, help="where the Rust workers are")
    options = parser.parse_args()
    results = []
    for group in options.only.split(","):
        for generator in options.generators.split(","):
            for size in options.sizes.split(","):
                width, height = map(int, size.split("x"))
                result = compare(group, generator, (height, width), options)
                if result:
                    results.append(result)
                    print(table(result), flush=True)
    machine = {"processor": processor(), "cores": len(os.sched_getaffinity(0)), "system": platform.platform()}
    if options.prepare:
        return
    print(f"\n{machine['processor']}, {machine['cores']} cores. {options.rounds} rounds.")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "comparisons": results}, indent=1))


if __name__ == "__main__":
    main()

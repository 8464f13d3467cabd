"""A Python runtime as a worker of the comparison; the protocol is in `rust/protocol/src/lib.rs`.

    python worker.py RUNTIME FOLDER INPUT OUTPUT CHANNELS HEIGHT WIDTH [OPTION=VALUE ...]

One class a runtime: it loads in its constructor and runs from host memory to host memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

THREADS = len(os.sched_getaffinity(0))


class Onnxruntime:
    """Options: `variant`, which of the exported graphs."""

    def __init__(self, folder, image, options):
        import onnxruntime

        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = THREADS
        session.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            str(folder / f"model{options.get('variant', '')}.onnx"), session, providers=["CPUExecutionProvider"]
        )
        self.name = f"ONNX Runtime {onnxruntime.__version__}"
        self.image = image

    def run(self):
        return self.session.run(None, {"input": self.image})[0]


class Openvino:
    """Options: `variant`; `precision`, f32 or bf16: what the runtime is told to compute in."""

    def __init__(self, folder, image, options):
        import openvino

        core = openvino.Core()
        precision = options.get("precision", "f32")
        config = {
            "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS,
        }
        model = core.read_model(str(folder / f"model{options.get('variant', '')}.onnx"))
        self.compiled = core.compile_model(model, "CPU", config)
        self.request = self.compiled.create_infer_request()
        self.name = f"OpenVINO {openvino.__version__.split('-')[0]}, {precision}"
        self.image = image

    def run(self):
        self.request.infer({0: self.image})
        return self.request.get_output_tensor(0).data.copy()


class Ncnn:
    """Options: `device`, cpu or vulkan; `precision`, f32, or f16 for its 16-bit storage and arithmetic and its tensor cores, which
    are off otherwise, as all 8-bit arithmetic is."""

    def __init__(self, folder, image, options):
        import ncnn

        self.ncnn = ncnn
        self.net = ncnn.Net()
        opt = self.net.opt
        opt.num_threads = THREADS
        half = options.get("precision", "f32") == "f16"
        for flag in dir(opt):
            if flag.startswith("use_fp16"):
                setattr(opt, flag, half)
            elif flag.startswith(("use_bf16", "use_int8")):
                setattr(opt, flag, False)
        vulkan = options.get("device") == "vulkan"
        opt.use_vulkan_compute = vulkan
        where = "CPU"
        if vulkan:
            self.net.set_vulkan_device(0)
            where = ncnn.get_gpu_info(0).device_name()
        if self.net.load_param(str(folder / "model.ncnn.param")) or self.net.load_model(str(folder / "model.ncnn.bin")):
            raise RuntimeError("ncnn could not load the model")
        self.name = f"ncnn {ncnn.__version__}, {'f16, ' if half else ''}{where}"
        self.image = np.ascontiguousarray(image[0])

    def run(self):
        with self.net.create_extractor() as extractor:
            extractor.input("in0", self.ncnn.Mat(self.image))
            status, out = extractor.extract("out0")
            if status:
                raise RuntimeError(f"ncnn stopped with {status}")
            return np.array(out)[None]


class Torch:
    """Options: `device`, cpu or cuda; `precision`, f32 or f16; `mode`, eager or one of `torch.compile`'s; channels-last throughout."""

    def __init__(self, folder, image, options):
        import torch

        import generators

        torch.set_num_threads(THREADS)
        self.torch = torch
        device = options.get("device", "cpu")
        half = options.get("precision", "f32") == "f16"
        _, _, height, width = image.shape
        module, *_ = generators.make(options["generator"], height, width)
        kind = dict(device=device, dtype=torch.float16 if half else torch.float32)
        self.module = module.to(**kind)
        for layer in self.module.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.to(memory_format=torch.channels_last)
        mode = options.get("mode", "eager")
        if mode != "eager":
            self.module = torch.compile(self.module, mode=mode)
        where = "CPU" if device == "cpu" else torch.cuda.get_device_name(0)
        self.name = f"PyTorch {torch.__version__.split('+')[0]}, {mode}, {where}"
        self.cuda = device != "cpu"
        self.image = torch.from_numpy(image)
        self.kind = kind

    def run(self):
        with self.torch.inference_mode():
            x = self.image.to(**self.kind).contiguous(memory_format=self.torch.channels_last)
            return self.module(x).float().contiguous().cpu().numpy()

    def report(self):
        return {"device_bytes": self.torch.cuda.max_memory_allocated()} if self.cuda else {}


RUNTIMES = {"onnxruntime": Onnxruntime, "openvino": Openvino, "ncnn": Ncnn, "torch": Torch}
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "ncnn": "ncnn", "torch": "torch"}


def main():
    name, folder, input_path, output_path, channels, height, width, *rest = sys.argv[1:]
    options = dict(text.split("=", 1) for text in rest)
    image = np.fromfile(input_path, "<f4").reshape(1, int(channels), int(height), int(width))
    __import__(PACKAGES[name])
    # The runtime's own messages must not be taken for answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(line):
        answers.write(f"{line}\n")
        answers.flush()

    say("loading")
    started = time.perf_counter()
    runtime = RUNTIMES[name](Path(folder), image, options)
    result = runtime.run()
    first = 1e3 * (time.perf_counter() - started)
    np.ascontiguousarray(result, "<f4").tofile(output_path)
    say(f"ready {first} {runtime.name}")
    for line in sys.stdin:
        if line.strip() == "report":
            say(json.dumps(getattr(runtime, "report", dict)()))
            continue
        times = []
        for _ in range(int(line)):
            started = time.perf_counter()
            runtime.run()
            times.append(1e3 * (time.perf_counter() - started))
        say(" ".join(map(str, times)))


if __name__ == "__main__":
    main()

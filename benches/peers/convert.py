"""Writes a generator for every runtime: safetensors, ONNX and ncnn where asked for, with an input and PyTorch's answer.

    python convert.py FOLDER GENERATOR HEIGHT WIDTH [FORMAT ...]

What a converter cannot do is written to FORMAT.failed, so that the comparison can say so.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import generators


def onnx(folder: Path, name: str, size: tuple[int, int]):
    """`fused` has LayerNormalization nodes (opset 17), the plain one ReduceMean: runtimes differ in what they like."""
    variants = {"": {}} if name != "sonolume-s" else {"-fused": {"fused": True}, "-plain": {"fused": False}}
    for suffix, options in variants.items():
        module, _, _, image = generators.make(name, *size, **options)
        path = folder / f"model{suffix}.onnx"
        torch.onnx.export(
            module, (image,), str(path), opset_version=17, input_names=["input"], output_names=["output"], dynamo=False
        )


def ncnn(folder: Path, name: str, size: tuple[int, int]):
    import pnnx

    # ncnn's graphs of these have no sizes inside, and pnnx runs what it converts.
    module, _, _, image = generators.make(name, *((64, 64) if name in generators.ANY_SIZE else size))
    script, out = folder / "model.pt", folder / "model.ncnn.param"
    torch.jit.trace(module, image, check_trace=False).save(str(script))
    shape = "[" + ",".join(str(n) for n in image.shape) + "]"
    command = [pnnx.EXEC_PATH, script, f"inputshape={shape}", "fp16=0", f"ncnnparam={out}", f"ncnnbin={out.with_suffix('.bin')}"]
    ran = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True)
    refused = [line for line in (ran.stdout + ran.stderr).splitlines() if "not supported" in line or "ignored" in line]
    for left in [*folder.glob("model*pnnx*"), folder / "model_ncnn.py", script]:
        left.unlink(missing_ok=True)
    if ran.returncode or not out.exists():
        raise RuntimeError((ran.stderr.strip().splitlines() or ["pnnx failed"])[-1])
    if refused:
        raise RuntimeError(f"pnnx: {refused[0]}")
    unknown = [line for line in out.read_text().splitlines() if line.startswith(("pnnx.", "aten::", "prim::", "F.", "Tensor.", "torch."))]
    if unknown:
        raise RuntimeError(f"ncnn has no {unknown[0].split()[0]}")


FORMATS = {"onnx": onnx, "ncnn": ncnn}


@torch.no_grad()
def convert(folder: Path, name: str, size: tuple[int, int], formats: list[str]):
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "expected.f32").exists():
        module, tensors, metadata, image = generators.make(name, *size)
        tensors = {key: value.contiguous() for key, value in tensors.items() if value.is_floating_point()}
        save_file(tensors, folder / "model.safetensors", metadata)
        image.numpy().astype("<f4").tofile(folder / "input.f32")
        answer = module(image)
        answer.numpy().astype("<f4").tofile(folder / "expected.f32")
        np.savetxt(folder / "shapes.txt", [image.shape, answer.shape], fmt="%d")
    for form in formats:
        done, failed = folder / f"{form}.done", folder / f"{form}.failed"
        if done.exists() or failed.exists():
            continue
        try:
            FORMATS[form](folder, name, size)
            done.touch()
        except Exception as error:  # whatever a converter throws is a result
            failed.write_text(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}\n")
            print(f"{name}: {failed.read_text()}", end="", file=sys.stderr)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    folder, name, height, width, *formats = sys.argv[1:]
    convert(Path(folder), name, (int(height), int(width)), formats)

"""Converts generators to safetensors, the one format that sonolume reads.

    python convert.py IN OUT.safetensors [--key NAME] [--note KEY=VALUE ...]
    python convert.py --self-check

IN is what PyTorch saved (`.pth`, `.pt`, `.ckpt`, `.bin`; zip or legacy format), what Keras saved (`.h5`, `.hdf5`, `.keras`,
`.weights.h5`), or another safetensors file. Needs safetensors and numpy; torch for PyTorch's files, h5py for Keras's.

PyTorch: files are read with `weights_only=True`, so that no code in them runs. The tensors may lie under a wrapper;
`--key` says which, else the first of WRAPPERS that is there. Where one file holds several networks under prefixes, `--key`
names one of them (`net_g`), else the first of GENERATORS is taken. Prefixes that training puts before every name are
removed. Numbers keep their type (f16 stays f16); what is not a tensor is left out.

Keras: `layer/kernel:0` becomes `layer.weight`, `bias:0` `layer.bias`, and so on. Kernels are transposed from
[height, width, in, out] to [out, in, height, width], those of transposed convolutions from [height, width, out, in] to
[in, out, height, width]; a separable convolution becomes the one dense kernel that it is, and is numbered among the
others. Slopes of LeakyReLU layers, which no shape tells, go into the metadata.
"""

import argparse
import io
import json
import re
import sys
import zipfile
from pathlib import Path

import numpy as np

# What a `.keras` archive calls its weights.
KERAS_WEIGHTS = "model.weights.h5"
# From the best weights to the plainest.
WRAPPERS = ("params_ema", "ema", "ema_state_dict", "params", "state_dict", "model_state_dict", "netG", "generator", "model")
# sonolume strips these itself too.
PREFIXES = ("module.", "_orig_mod.", "net_g_ema.", "net_g.", "netG_ema.", "netG.", "generator_ema.", "generator.")
# Where a file holds several networks: the ones to take, best first.
GENERATORS = ("net_g_ema", "netG_ema", "generator_ema", "net_g", "netG", "generator", "G_ema", "G")


def main():
    parser = argparse.ArgumentParser(description="Converts generators to safetensors.")
    parser.add_argument("input", nargs="?", type=Path)
    parser.add_argument("output", nargs="?", type=Path)
    parser.add_argument("--key", help="the wrapper that holds the tensors, such as params_ema")
    parser.add_argument("--note", action="append", default=[], metavar="KEY=VALUE", help="for the metadata: what no shape tells")
    parser.add_argument("--self-check", action="store_true", help="convert small files of every kind and compare")
    options = parser.parse_args()
    if options.self_check:
        return self_check()
    if options.input is None or options.output is None:
        parser.error("IN and OUT.safetensors are needed")
    notes = [note.partition("=") for note in options.note]
    if any(not key or not value for key, _, value in notes):
        parser.error("--note needs KEY=VALUE")
    tensors, metadata = convert(options.input, options.key)
    metadata |= {key: value for key, _, value in notes}
    save(options.output, tensors, metadata)
    print(f"{options.output}: {len(tensors)} tensors, {sum(value.size for value in tensors.values())} numbers")


def convert(path, key=None):
    """The tensors of a file, as arrays by name, and notes for the metadata."""
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror or error}") from None
    if not head:
        raise SystemExit(f"{path}: the file is empty; fetch it again")
    is_zip = head.startswith(b"PK") and zipfile.is_zipfile(path)
    names = zipfile.ZipFile(path).namelist() if is_zip else []
    if head.startswith(b"\x89HDF\r\n\x1a\n") or KERAS_WEIGHTS in names:
        tensors, metadata = read_keras(path, KERAS_WEIGHTS in names)
    elif head[8:] == b"{":
        tensors, metadata = read_safetensors(path, key)
    else:
        tensors, metadata = read_torch(path, key), {}
    if not tensors:
        raise SystemExit(f"{path}: no tensors found; --key may name what holds them")
    return tensors, metadata


def save(path, tensors, metadata):
    from safetensors.numpy import save_file

    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    save_file(tensors, path, {"format": "pt", **metadata})


def read_safetensors(path, key=None):
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return strip_prefixes(one_network(tensors, key, path)), file.metadata() or {}


def harmless():
    """Types that checkpoints hold beside tensors, mostly as a score; no code runs when they are made."""
    import numpy.dtypes as dtypes
    from numpy._core.multiarray import scalar

    kinds = [getattr(dtypes, f"{name}DType") for name in ("Float32", "Float64", "Int32", "Int64", "Bool")]
    return [np.dtype, *kinds, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]


def read_torch(path, key=None):
    import pickle

    import torch

    try:
        with torch.serialization.safe_globals(harmless()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise SystemExit(
            f"{path}: cannot be read safely ({reason})\nIf it is a whole network or holds more than tensors, save only its "
            "state dict anew (torch.save(network.state_dict(), ...)), on a machine where running its code is no danger."
        ) from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SystemExit(
            f"{path}: not a file that PyTorch, Keras or safetensors saved, or a damaged one ({reason}). Of TorchScript save "
            "the state dict instead."
        ) from None
    state = unwrap(content, key, path)
    tensors = {}
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            # numpy has no bfloat16.
            value = value.float() if value.dtype == torch.bfloat16 else value
            tensors[name] = value.detach().contiguous().numpy().copy()
    return strip_prefixes(tensors)


def unwrap(content, key, path):
    """The state dict inside of what was saved."""
    if key is not None and not has_network(content, key):
        if not isinstance(content, dict) or key not in content:
            found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
            raise SystemExit(f"{path}: there is no `{key}`; it holds {found}")
        content = content[key]
    while isinstance(content, dict):
        # A wrapper first: beside it there may be tensors that are none of the generator's.
        inner = next((name for name in WRAPPERS if isinstance(content.get(name), dict) and content[name]), None)
        if inner is None:
            break
        content = content[inner]
    if not isinstance(content, dict):
        raise SystemExit(f"{path}: holds a {type(content).__name__}, not tensors by name")
    if not any(hasattr(value, "dtype") for value in content.values()):
        raise SystemExit(f"{path}: no tensors found; name their place with --key: {', '.join(map(str, content))}")
    return one_network(content, key, path)


def has_network(content, key):
    """True if `key` is no wrapper but the prefix of some of the names, which may lie in a wrapper."""
    if not isinstance(content, dict) or key in content:
        return False
    inner = [content, *(content[name] for name in WRAPPERS if isinstance(content.get(name), dict))]
    return any(str(name).startswith(f"{key}.") for part in inner for name in part)


def one_network(tensors, key, path):
    """Of the tensors of several networks those of the generator."""

    def of(network):
        return {name: value for name, value in tensors.items() if str(name).startswith(f"{network}.")}

    network = next((name for name in GENERATORS if of(name)), None) if key is None else key if of(key) else None
    if network is None or len(of(network)) == len(tensors):
        return tensors
    print(f"{path}: taking `{network}`, leaving out {len(tensors) - len(of(network))} tensors", file=sys.stderr)
    return {name[len(network) + 1 :]: value for name, value in of(network).items()}


def strip_prefixes(tensors):
    """Removes a prefix that all names share, again and again."""
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        if not tensors:
            break
        tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
    return tensors


def read_keras(path, in_zip):
    import h5py

    layers, config, ordered = {}, None, []
    content = io.BytesIO(zipfile.ZipFile(path).read(KERAS_WEIGHTS)) if in_zip else path
    with h5py.File(content, "r") as file:
        root = file["model_weights"] if "model_weights" in file else file

        def visit(name, item):
            if isinstance(item, h5py.Dataset) and not name.startswith(("optimizer", "seed_generator")):
                # Models inside of models and name scopes only make the path longer.
                *_, layer, variable = name.split("/")
                if layer == "vars":
                    layer = name.split("/")[-3]
                    variable = keras_variable(layer, int(variable))
                layers.setdefault(layer, {})[variable.split(":")[0]] = item[()]

        root.visititems(visit)
        if not in_zip:
            config = file.attrs.get("model_config")
            ordered = [name.decode() if isinstance(name, bytes) else name for name in root.attrs.get("layer_names", [])]
    if in_zip:
        config = zipfile.ZipFile(path).read("config.json")
    config = json.loads(config) if config is not None else {}
    tensors = {}
    for layer, variables in layers.items():
        tensors.update(keras_layer(layer, variables))
    tensors = number_separable(tensors, keras_order(config) if in_zip else ordered)
    return tensors, keras_slopes(config)


def keras_variable(layer, index):
    """The name of a variable that Keras 3 only numbers; `layer` is the kind of layer and its number."""
    kinds = {
        "separable_conv": ("depthwise_kernel", "pointwise_kernel", "bias"),
        "depthwise_conv": ("depthwise_kernel", "bias"),
        "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
        "": ("kernel", "bias"),
    }
    names = next(names for kind, names in kinds.items() if layer.startswith(kind))
    return names[index] if index < len(names) else str(index)


def keras_order(config):
    """The layers of a Keras 3 file as it names them, in the order of execution: by kind and number."""
    counts, names = {}, []

    def visit(layers):
        for layer in layers:
            inner = layer.get("config", {}).get("layers")
            if inner is not None:
                visit(inner)
                continue
            kind = layer["class_name"].replace("Conv2DTranspose", "Conv2dTranspose").replace("Conv2D", "Conv2d")
            kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()
            counts[kind] = counts.get(kind, -1) + 1
            names.append(f"{kind}_{counts[kind]}" if counts[kind] else kind)

    visit(config.get("config", {}).get("layers", []))
    return names


def keras_layer(layer, variables):
    """One layer's variables under PyTorch's names and in PyTorch's order of axes."""
    tensors = {}
    if "depthwise_kernel" in variables and "pointwise_kernel" in variables:
        depth, point = variables.pop("depthwise_kernel"), variables.pop("pointwise_kernel")
        height, width, inputs, multiplier = depth.shape
        point = point.reshape(inputs, multiplier, -1)
        kernel = np.einsum("hwim,imo->oihw", depth.astype(np.float64), point.astype(np.float64))
        tensors[f"{layer}.weight"] = kernel.astype(depth.dtype)
    for variable, value in variables.items():
        if variable == "kernel" and value.ndim == 4:
            # Both kinds end as [.., .., height, width] with the last two axes of Keras in reverse.
            tensors[f"{layer}.weight"] = value.transpose(3, 2, 0, 1)
        elif variable == "depthwise_kernel":
            height, width, inputs, multiplier = value.shape
            tensors[f"{layer}.weight"] = value.transpose(2, 3, 0, 1).reshape(inputs * multiplier, 1, height, width)
        elif variable == "kernel":
            tensors[f"{layer}.weight"] = value.T
        else:
            names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
            tensors[f"{layer}.{names.get(variable, variable)}"] = value
    return tensors


def number_separable(tensors, layers):
    """Plain and separable convolutions are counted together, in the order of execution, as if all were plain."""
    kinds = re.compile(r"(?:separable_)?conv2d(?:_\d+)?$")
    convs = [layer for layer in layers if kinds.match(layer)]
    if not any(layer.startswith("separable") for layer in convs):
        return tensors
    renamed = {layer: f"conv2d_{index}" if index else "conv2d" for index, layer in enumerate(convs)}
    parts = ((*name.rsplit(".", 1), value) for name, value in tensors.items())
    return {f"{renamed.get(layer, layer)}.{kind}": value for layer, kind, value in parts}


def keras_slopes(config):
    """MimickNet's activations: slopes of the first and the last one that follow a convolution."""
    slopes = []

    def visit(item):
        if isinstance(item, dict):
            inner = item.get("config")
            if isinstance(inner, dict) and "class_name" in item:
                kind, activation = item["class_name"], inner.get("activation")
                if kind == "LeakyReLU":
                    slopes.append(inner.get("alpha", inner.get("negative_slope", 0.3)))
                elif kind == "ReLU":
                    slopes.append(inner.get("negative_slope") or 0.0)
                elif kind in ("Activation", "Conv2D", "SeparableConv2D") and activation == "relu":
                    slopes.append(0.0)
            for value in item.values():
                visit(value)
        elif isinstance(item, list):
            for value in item:
                visit(value)

    visit(config)
    if not slopes:
        return {}
    slopes = [float(np.asarray(slope["value"] if isinstance(slope, dict) else slope)) for slope in slopes]
    return {"mimicknet.down_slope": f"{slopes[0]:.6g}", "mimicknet.up_slope": f"{slopes[-1]:.6g}"}


def self_check():
    """Files of every kind, made with random numbers: what is converted computes the same."""
    import tempfile

    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        checks = []
        try:
            import torch

            weight = torch.from_numpy(generator.standard_normal((3, 2, 3, 3), dtype=np.float32))
            state = {"a.weight": weight, "a.bias": weight[:, 0, 0, 0]}
            wrapped = {"module." + name: value for name, value in state.items()}
            for name, content, zipped in [
                ("plain", state, True),
                ("legacy", state, False),
                ("state_dict", {"state_dict": wrapped, "epoch": 3}, True),
                ("params_ema", {"params": {}, "params_ema": state}, False),
                ("nested", {"netG": {"state_dict": wrapped}, "loss": weight}, True),
            ]:
                path = folder / f"{name}.pth"
                torch.save(content, path, _use_new_zipfile_serialization=zipped)
                tensors, _ = convert(path)
                same = set(tensors) == set(state) and all((tensors[n] == state[n].numpy()).all() for n in state)
                checks.append((f"PyTorch, {name}", same))
            other = {"D." + name: value for name, value in state.items()}
            both = {"net_g." + name: value for name, value in state.items()} | other
            torch.save({"state_dict": both, "best": np.float64(30.5)}, folder / "gan.ckpt")
            for name, key in [("generator among networks", None), ("network by key", "net_g"), ("another network", "D")]:
                tensors, _ = convert(folder / "gan.ckpt", key)
                checks.append((f"PyTorch, {name}", set(tensors) == set(state)))
            save(folder / "again.safetensors", {"module." + name: value.numpy() for name, value in state.items()}, {"a": "b"})
            tensors, metadata = convert(folder / "again.safetensors")
            checks.append(("safetensors again", set(tensors) == set(state) and metadata["a"] == "b"))
            torch.save({"state_dict": state, "options": argparse.Namespace()}, folder / "unsafe.pth")
            torch.save(torch.nn.Conv2d(1, 1, 1), folder / "network.pth")
            (folder / "empty.pth").write_bytes(b"")
            (folder / "text.pth").write_text("not weights\n" * 9)
            (folder / "cut.pth").write_bytes((folder / "plain.pth").read_bytes()[:700])
            torch.jit.script(torch.nn.ReLU()).save(folder / "script.pt")
            for name in ("unsafe.pth", "network.pth", "empty.pth", "text.pth", "cut.pth", "script.pt", "absent.pth"):
                try:
                    convert(folder / name)
                    refused = False
                except SystemExit as error:
                    refused = str(error).startswith(str(folder / name))
                checks.append((f"PyTorch, refused: {name}", refused))
        except ImportError:
            print("torch is not there: PyTorch's files are not checked")
        try:
            import h5py

            kernel = generator.standard_normal((7, 3, 2, 5), dtype=np.float32)
            transposed = generator.standard_normal((2, 3, 4, 5), dtype=np.float32)
            depth = generator.standard_normal((3, 3, 2, 2), dtype=np.float32)
            point = generator.standard_normal((1, 1, 4, 3), dtype=np.float32)
            with h5py.File(folder / "keras.h5", "w") as file:
                root = file.create_group("model_weights")
                root["model/conv2d/kernel:0"] = kernel
                root["conv2d_transpose/conv2d_transpose/kernel:0"] = transposed
                root["separable_conv2d/separable_conv2d/depthwise_kernel:0"] = depth
                root["separable_conv2d/separable_conv2d/pointwise_kernel:0"] = point
                root.attrs["layer_names"] = [b"separable_conv2d", b"conv2d", b"conv2d_transpose"]
                activation = {"class_name": "LeakyReLU", "config": {"alpha": np.float32(0.2).item()}}
                last = {"class_name": "Activation", "config": {"activation": "relu"}}
                file.attrs["model_config"] = json.dumps({"config": {"layers": [activation, last]}})
            tensors, metadata = convert(folder / "keras.h5")
            index = (4, 1, 6, 2)
            checks.append(("Keras, convolution", tensors["conv2d_1.weight"][index] == kernel[6, 2, 1, 4]))
            checks.append(("Keras, shape", tensors["conv2d_1.weight"].shape == (5, 2, 7, 3)))
            # [height, width, out = 4, in = 5]
            found = tensors["conv2d_transpose.weight"]
            checks.append(("Keras, transposed", found.shape == (5, 4, 2, 3) and found[3, 1, 0, 2] == transposed[0, 2, 1, 3]))
            dense = tensors["conv2d.weight"]
            expected = sum(depth[1, 2, 1, m] * point[0, 0, 2 + m, 0] for m in range(2))
            checks.append(("Keras, separable", abs(dense[0, 1, 1, 2] - expected) < 1e-6))
            noted = {"mimicknet.down_slope": "0.2", "mimicknet.up_slope": "0"}
            checks.append(("Keras, slopes", metadata == noted))
            content = io.BytesIO()
            with h5py.File(content, "w") as file:
                file["layers/conv2d/vars/0"] = kernel
                file["layers/conv2d/vars/1"] = kernel[0, 0, 0]
                file["layers/conv2d_transpose/vars/0"] = transposed
                file["layers/separable_conv2d/vars/0"] = depth
                file["layers/separable_conv2d/vars/1"] = point
                file["optimizer/vars/0"] = point
            kinds = ("InputLayer", "SeparableConv2D", "LeakyReLU", "Conv2D", "Conv2DTranspose", "ReLU")
            made = [{"class_name": kind, "config": {"negative_slope": 0.2 * (kind == "LeakyReLU")}} for kind in kinds]
            with zipfile.ZipFile(folder / "three.keras", "w") as archive:
                archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"layers": made}}))
                archive.writestr(KERAS_WEIGHTS, content.getvalue())
            three, metadata = convert(folder / "three.keras")
            same = all((three[name] == tensors[name]).all() for name in tensors)
            checks.append(("Keras 3", same and set(three) == {*tensors, "conv2d_1.bias"} and metadata == noted))
        except ImportError:
            print("h5py is not there: Keras's files are not checked")
        save(folder / "out.safetensors", {"a": np.ones(3, np.float16)}, {})
        checks.append(("safetensors", (folder / "out.safetensors").stat().st_size > 0))
    for name, passed in checks:
        print(f"{'ok' if passed else 'FAILED'}  {name}")
    return 0 if all(passed for _, passed in checks) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Reads the weight files people have into a headless model: `.weights.h5`, `.keras` and both kinds of old `.h5`.

Only arrays are read. A `.keras` file's configuration is never turned into code, so nothing in it can run.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encoder.plain_hdf5 import check_plain_hdf5
from store.errors import StoreError, UserError
from store.inner_paths import inner_path

# A layer's name and its weights, each an h5py dataset: shape now, numbers when asked.
_StoredLayer = tuple[str, list[Any]]


def fill_from_file(model: Any, path: Path, backbone: str) -> None:
    """Gives a headless model the weights in a file, with or without a classification head.

    Raises:
        UserError: The file is missing, damaged, holds a Lambda layer, names other files, or is of another model; for
            that last, the message names the first weight whose shape differs.
    """
    if not path.is_file():
        raise UserError(f"--weights: expected imagenet, random or a file, found no file {path}")
    try:
        with _opened(path) as file:
            fill = _fill_from_old if "layer_names" in _old_root(file).attrs else _fill_from_new
            fill(model, file, _Refusal(path, backbone, model))
    except StoreError as error:
        raise UserError(f"--weights {path}: {error}") from error
    except (OSError, KeyError, ValueError, TypeError, RecursionError, zipfile.BadZipFile) as error:
        detail = " ".join(str(error).split())
        raise UserError(
            f"--weights {path}: expected a .weights.h5, .h5 or .keras file, could not read it: {detail}"
        ) from error


class _Refusal:
    """Words the error for a file of another model."""

    def __init__(self, path: Path, backbone: str, model: Any) -> None:
        self._expected = f"--weights {path}: expected {backbone} with {len(model.weights)} weights"

    def at(self, name: str, expected: tuple[int, ...], found: tuple[int, ...] | None) -> UserError:
        what = "no such weight" if found is None else f"shape {found}"
        return UserError(
            f"{self._expected}, {name} of shape {expected}, found {what}; give the weights of that model, or name "
            "theirs with --backbone"
        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The HDF5 file, unpacked from a `.keras` archive where it lies in one."""
    import h5py

    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            for name in archive.namelist():
                inner_path(name.removesuffix("/"))
            _refuse_lambda(path, archive.read("config.json"))
            path = Path(archive.extract("model.weights.h5", stack.enter_context(tempfile.TemporaryDirectory())))
        check_plain_hdf5(path)
        yield stack.enter_context(h5py.File(path, "r"))


def _refuse_lambda(path: Path, config: bytes) -> None:
    """A Lambda layer computes something that its weights do not tell."""

    def check(node: dict[str, Any]) -> dict[str, Any]:
        if node.get("class_name") == "Lambda":
            raise UserError(f"--weights {path}: expected a model without Lambda layers, found one; save it without")
        return node

    json.loads(config, object_hook=check)


def _fill_from_new(model: Any, file: Any, refusal: _Refusal) -> None:
    """From the Keras 3 layout, where a weight's place follows from its layer's class and position.

    A model of the same architecture saved here tells which places to expect; they are filled and read back.
    """
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template.weights.h5"
        model.save_weights(template)
        with h5py.File(template, "r+") as target:
            expected = _datasets(target)
            root = max(_roots(file), key=lambda group: sum(place in group for place in expected))
            for place in sorted(expected, key=_natural):
                shape = expected[place].shape
                found = root[place].shape if place in root else None
                if found != shape:
                    raise refusal.at(place, shape, found)
            for place, dataset in expected.items():
                dataset[...] = root[place][()]
        model.load_weights(template)


def _datasets(group: Any) -> dict[str, Any]:
    """Every dataset below a group by its path, its numbers not yet read."""
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    group.visititems(visit)
    return found


def _roots(file: Any) -> list[Any]:
    """The file, and every model nested in it: a backbone is often one layer of a classifier."""
    nested: list[Any] = []
    file.visititems(lambda _, item: nested.append(item) if "layers" in getattr(item, "keys", tuple)() else None)
    return [file, *nested]


def _natural(place: str) -> list[Any]:
    """Sorts conv2d, conv2d_2, conv2d_10 in that order."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", place)]


def _fill_from_old(model: Any, file: Any, refusal: _Refusal) -> None:
    """From the layout of Keras 1 and 2 (and of Keras 3's `.h5`), where layers are named and in the model's order."""
    wanted = [(layer.name, _old_order(layer)) for layer in model.layers if layer.weights]
    stored = _choose([name for name, _ in wanted], _stored_layers(_old_root(file)))
    pairs: list[tuple[Any, Any]] = []
    for position, (name, weights) in enumerate(wanted):
        arrays = stored[position] if position < len(stored) else []
        for index, weight in enumerate(weights):
            shape = tuple(weight.shape)
            found = tuple(arrays[index].shape) if index < len(arrays) else None
            if found != shape:
                raise refusal.at(f"{name}/{weight.name}", shape, found)
            pairs.append((weight, arrays[index]))
    for weight, array in pairs:
        weight.assign(array[()])


def _old_root(file: Any) -> Any:
    return file.get("model_weights", file)


def _old_order(layer: Any) -> list[Any]:
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _stored_layers(root: Any) -> list[_StoredLayer]:
    layers = [
        (name, [root[name][weight] for weight in _names(root[name], "weight_names")])
        for name in _names(root, "layer_names")
    ]
    return [(name, weights) for name, weights in layers if weights]


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names, which Keras spreads over numbered attributes when it is long."""
    chunks = [group.attrs[attribute]] if attribute in group.attrs else []
    while f"{attribute}{len(chunks)}" in group.attrs:
        chunks.append(group.attrs[f"{attribute}{len(chunks)}"])
    return [name.decode() if isinstance(name, bytes) else str(name) for chunk in chunks for name in chunk]


def _choose(names: list[str], layers: list[_StoredLayer]) -> list[list[Any]]:
    """The stored weights for each layer name: by name, else by name inside a nested model, else by position.

    Position comes last because some backbones have numbered names that differ from one build to the next.
    """
    within: dict[str, list[Any]] = {}
    for _, weights in layers:
        for weight in weights:
            within.setdefault(weight.name.split("/")[-2], []).append(weight)
    for by_name in (dict(layers), within):
        if all(name in by_name for name in names):
            return [by_name[name] for name in names]
    return [weights for _, weights in layers]

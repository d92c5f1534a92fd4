"""Whether the files that a manifest lists are there, told by their sizes in one listing."""

from __future__ import annotations

from collections.abc import Mapping

from store.location import Store


def find_fault(store: Store, folder: str, expected: Mapping[str, int]) -> str:
    """What is wrong with the files of a folder: the first that is missing or of another size, or "".

    Args:
        store: Where.
        folder: Relative to the store.
        expected: Size in bytes by path, relative to the folder.

    Raises:
        StoreError: The store cannot be read.
    """
    found = store.sizes(folder)
    for path, size in expected.items():
        if found.get(path) != size:
            there = "none" if path not in found else f"{found[path]} bytes"
            return f"{store.full_path(folder)}/{path}: expected {size} bytes, found {there}"
    return ""

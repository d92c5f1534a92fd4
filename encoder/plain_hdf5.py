"""HDF5 files that hold their own numbers and nothing else.

HDF5 can name other files: a dataset's numbers in any file of the disk (external storage), a link into another HDF5
file, a dataset put together from others (virtual), links of a type that some plugin follows. Whoever opened such
weights would read what their author chose, on the reader's machine. Soft links stay inside, yet no weights file needs
one, and a walk that skips them says nothing of what lies behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.errors import StoreError


def check_plain_hdf5(path: Path) -> None:
    """Looks at every link and every dataset of a file; reads none of their numbers and follows nothing out of it.

    Raises:
        StoreError: It has a link that is not a hard one, or a dataset whose numbers lie elsewhere.
        OSError: It is missing, or no HDF5.
    """
    import h5py

    with h5py.File(path, "r") as file:
        found = file.id.links.visit(_describe_link, info=True) or file.visititems(_describe_dataset)
    if found is not None:
        raise StoreError(f"{path}: expected HDF5 that holds its own numbers, found {found}; save the weights again")


def _describe_link(name: bytes, info: Any) -> str | None:
    """What kind of link it is; None for a hard one. HDF5 visits every link of every group once, cycles included."""
    import h5py

    kinds = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}
    if info.type == h5py.h5l.TYPE_HARD:
        return None
    return f"{kinds.get(info.type, 'a link of an unknown kind')} at {name.decode('utf-8', 'replace')!r:.80}"


def _describe_dataset(name: str, item: Any) -> str | None:
    """Where its numbers lie, if not in this file."""
    import h5py

    if not isinstance(item, h5py.Dataset):
        return None
    created = item.id.get_create_plist()
    if created.get_external_count():
        return f"numbers stored in another file at {name!r:.80}"
    if created.get_layout() == h5py.h5d.VIRTUAL:
        return f"numbers put together from other datasets at {name!r:.80}"
    return None

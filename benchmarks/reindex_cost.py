"""What a night costs against the share of a catalog's pictures that changed; every figure measured in this run.

python -m benchmarks.reindex_cost [--pictures N] [--shares S ...] [--backbone NAME] [--out FILE.svg]

Each run is the command itself in a process of its own, timed from its start to its end. Nights follow each other on one
store: each starts from what the one before left, with some more pictures changed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.index_table import machine
from benchmarks.pictures import JPEG_QUALITY, make_pictures, write_table
from index_builder.pages.charts import Axis, Point, Target, plot
from index_builder.pages.html import Html, element
from pipelines.cli.flag_types import positive, ratio
from store.location import Store
from store.publication import current_version
from store.snapshot import SnapshotManifest, read_manifest

SIDE_PX = 500
_STAMP_SQUARES, _SQUARE_PX = 4, 8
_FIRST_NIGHT_S, _DAY_S = 1_577_836_800, 86_400
"""2020-01-01, UTC: pictures are dated long ago, for a file of the last seconds is not trusted to be whole."""

_STYLE = """
svg { background: #fff; font: 12px system-ui, sans-serif; } text { fill: #1d2127; } circle { fill: #1769c4; }
.grid { stroke: #d5dae1; } .line { fill: none; stroke: #1769c4; stroke-width: 1.5; }
.target { stroke: #c8102e; stroke-dasharray: 5 4; } .chosen { fill: none; stroke: #c8102e; stroke-width: 2.5; }
"""
_FIGURE_PX = (760, 420)
_CAPTION_PX = 28


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What one run did.

    Attributes:
        title: What it was.
        embedded, reused, fetched: Rows embedded and reused, and pictures read.
        seconds: From the start of its process to the end.
        share: Of the pictures that had changed; None where none were there before.
    """

    title: str
    embedded: int
    reused: int
    fetched: int
    seconds: float
    share: float | None = None


class ChangingCatalog:
    """Pictures on disk, no two alike and none ever as it was before, and the table that lists them.

    Attributes:
        table: The CSV's path.
    """

    def __init__(self, folder: Path, pictures: int, side_px: int, seed: int = 0) -> None:
        """Draws every picture once.

        Args:
            folder: For pictures and table.
            pictures: How many.
            side_px: The long side of each.
            seed: Of what changes.
        """
        self._bases = []
        for path in make_pictures(folder, side_px):
            with Image.open(path) as image:
                self._bases.append(np.array(image))
        (folder / "catalog").mkdir()
        self._files = [folder / "catalog" / f"{number:07d}.jpg" for number in range(pictures)]
        self._rng = np.random.default_rng(seed)
        self._night = 0
        self._draw(range(pictures))
        self.table = write_table(folder / "catalog.csv", self._files)

    def change(self, count: int) -> None:
        """Gives `count` pictures, drawn at random, new content and a later time."""
        self._night += 1
        self._draw(self._rng.choice(len(self._files), count, replace=False).tolist())

    def _draw(self, numbers: Iterable[int]) -> None:
        modified_s = _FIRST_NIGHT_S + self._night * _DAY_S
        for number in numbers:
            pixels = _stamped(self._bases[number % len(self._bases)], number, self._night)
            Image.fromarray(pixels).save(self._files[number], "JPEG", quality=JPEG_QUALITY)
            os.utime(self._files[number], (modified_s, modified_s))


def _stamped(pixels: npt.NDArray[np.uint8], number: int, night: int) -> npt.NDArray[np.uint8]:
    """A picture whose corner no other number or night has; its squares are as large as JPEG's, which keeps them."""
    stamp = np.random.default_rng([number, night]).integers(0, 256, (_STAMP_SQUARES, _STAMP_SQUARES, 3), np.uint8)
    side_px = _STAMP_SQUARES * _SQUARE_PX
    stamped = pixels.copy()
    stamped[:side_px, :side_px] = stamp.repeat(_SQUARE_PX, axis=0).repeat(_SQUARE_PX, axis=1)
    return stamped


def run_command(arguments: Sequence[str]) -> dict[str, Any]:
    """Runs one `shelfmark` command in a fresh process, and reads the JSON document that it prints.

    Raises:
        RuntimeError: It failed.
    """
    command = [sys.executable, "-m", "pipelines.cli.main", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: expected exit 0, found {done.returncode}:\n{done.stderr}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


Run = Callable[[Sequence[str]], dict[str, Any]]


def measure(
    folder: Path,
    pictures: int,
    shares: Sequence[float],
    backbone: str,
    side_px: int = SIDE_PX,
    run: Run = run_command,
) -> Iterator[Cost]:
    """The first run, then a night for each share, then a reindex of a store that is up to date.

    Args:
        folder: Empty; catalog and store go there.
        pictures: In the catalog.
        shares: Of the pictures that change before each night.
        backbone: Of the encoder; its weights are random.
        side_px: The long side of each picture.
        run: Runs a command.

    Raises:
        RuntimeError: A run failed, or embedded or fetched other than what had changed.
    """
    catalog = ChangingCatalog(folder, pictures, side_px)
    store = Store(str(folder / "store"))
    flags = ["--catalog", str(catalog.table), "--store", str(folder / "store")]
    flags += ["--backbone", backbone, "--weights", "random", "--format", "json"]
    yield _embed(run, flags, store, pictures, pictures)
    for share in shares:
        changed = round(share * pictures)
        catalog.change(changed)
        yield _embed(run, flags, store, pictures, changed, changed / pictures)
    yield _reindex_nothing(run, flags, store)


def _embed(run: Run, flags: list[str], store: Store, pictures: int, changed: int, share: float | None = None) -> Cost:
    began = time.perf_counter()
    document = run(["embed", *flags])
    seconds = time.perf_counter() - began
    manifest = read_manifest(store, document["snapshot"])
    check_work(manifest, pictures, changed)
    title = "first run" if share is None else f"{share:.2%} changed"
    return Cost(title, manifest.counts.embedded, manifest.counts.reused, manifest.work["fetched"], seconds, share)


def _reindex_nothing(run: Run, flags: list[str], store: Store) -> Cost:
    """The second of two reindex runs: the first publishes, and is not what is measured.

    An untrained network's embeddings lie so close together that no index tells them apart: recall has no gate here.
    """
    flags = [*flags, "--target_recall", "0.01"]
    run(["reindex", *flags])
    published = current_version(store)
    began = time.perf_counter()
    record = run(["reindex", *flags])
    seconds = time.perf_counter() - began
    if record["outcome"] != "nothing_to_do" or current_version(store) != published:
        raise RuntimeError(f"reindex: expected nothing to do beside {published}, found {record['outcome']}")
    counts = record["counts"]
    return Cost("reindex, nothing to do", counts["embedded"], counts["reused"], counts["fetched"], seconds)


def check_work(manifest: SnapshotManifest, pictures: int, changed: int) -> None:
    """Refuses a run that did more or less than what had changed.

    Raises:
        RuntimeError: A count of the manifest is another.
    """
    found = {
        "encoded": manifest.work["encoded"],
        "fetched": manifest.work["fetched"],
        "embedded": manifest.counts.embedded,
        "reused": manifest.counts.reused,
    }
    expected = {"encoded": changed, "fetched": changed, "embedded": changed, "reused": pictures - changed}
    if found != expected:
        raise RuntimeError(f"snapshot {manifest.snapshot}: expected {expected}, found {found}")


def header() -> str:
    """Of the table."""
    return f"{'':<24}{'embedded':>10}{'reused':>10}{'fetched':>10}{'seconds':>10}{'of first run':>14}"


def line_of(cost: Cost, first: Cost) -> str:
    """The table's line for one run."""
    return (
        f"{cost.title:<24}{cost.embedded:>10,}{cost.reused:>10,}{cost.fetched:>10,}"
        f"{cost.seconds:>10.1f}{cost.seconds / first.seconds:>14.4f}"
    )


def draw_figure(costs: Sequence[Cost], caption: str) -> str:
    """Seconds against the share changed, both logarithmic, as an SVG document.

    A night without changes has no place on a logarithmic axis: it is a dashed line, the floor under the others. The
    ring is the first run.
    """
    first, *nights = costs
    line = sorted(
        (Point(100 * cost.share, cost.seconds, _tooltip(cost)) for cost in nights if cost.share), key=lambda p: p.x
    )
    idle = next((cost for cost in nights if cost.share == 0), None)
    figure = plot(
        [*line, Point(100.0, first.seconds, _tooltip(first), chosen=True)],
        Axis("pictures changed since the run before, %", log=True),
        Axis("seconds", log=True),
        line=line,
        target=Target(idle.seconds, f"nothing changed: {idle.seconds:.1f} s") if idle else None,
    )
    width_px, height_px = _FIGURE_PX
    whole = f"0 0 {width_px} {height_px + _CAPTION_PX}"
    return element(
        "svg",
        element("style", Html(_STYLE)),
        figure,
        element("text", caption, x=width_px / 2, y=height_px + _CAPTION_PX / 2, text_anchor="middle"),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=whole,
        width=width_px,
        height=height_px + _CAPTION_PX,
    )


def _tooltip(cost: Cost) -> str:
    return f"{cost.title}: {cost.seconds:.1f} s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table and draws the figure.

    Raises:
        RuntimeError: See `measure`.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=positive, default=10_000)
    parser.add_argument("--shares", type=ratio, nargs="+", default=[0.0, 0.01, 0.1, 1.0], help="changed each night")
    parser.add_argument("--backbone", default="resnet50", help="of the encoder, with random weights")
    parser.add_argument("--out", type=Path, metavar="FILE.svg", help="where to draw seconds against the share changed")
    flags = parser.parse_args(arguments)
    setting = f"{flags.pictures:,} pictures of {SIDE_PX} px, {flags.backbone}"
    print(f"{machine()}\n{setting}; each run goes on from the store that the one above left\n\n{header()}")
    costs: list[Cost] = []
    with tempfile.TemporaryDirectory(prefix="shelfmark-bench-") as scratch:
        for cost in measure(Path(scratch), flags.pictures, flags.shares, flags.backbone):
            costs.append(cost)
            print(line_of(cost, costs[0]), flush=True)
    if flags.out:
        caption = f"{setting}; ring: first run; dashed: a run where nothing changed"
        flags.out.write_text(draw_figure(costs, caption), encoding="utf-8")


if __name__ == "__main__":
    main()

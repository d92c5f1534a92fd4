"""From a folder of pictures to a search, in Python: python examples/search_products.py [FOLDER].

Draws a small catalog into FOLDER (default: example) and works in there. The weights are random, so that the example
needs no download: the run is real, its similarities mean nothing. Leave `weights` out for ImageNet's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import shelfmark
from samples.catalog import draw_catalog


def main(folder: Path) -> None:
    """Draws, embeds, builds, searches, measures, and brings the store up to date after a change."""
    catalog, store = draw_catalog(folder / "catalog", items=12, views=2, seed=0), folder / "store"

    snapshot = shelfmark.embed(catalog, store, backbone="mobilenetv3small", weights="random", image_size=64)
    print(snapshot, end="\n\n")

    version = shelfmark.build_index(store, target_recall=0.95, k=5)
    print(f"recall@5 {version.to_dict()['recall']['measured']:.3f} of {version.name}\n")

    searcher = shelfmark.open_searcher(store)
    picture = next((folder / "catalog" / "images").rglob("*.*"))
    for hit in searcher.search_pictures([picture], k=3)[0]:
        print(f"{hit.score:.3f}  {hit.item_id}  {hit.attributes['title']}")

    quality = shelfmark.evaluate(store, label="item_id", k=5)
    print(f"\nprecision@1 {quality.quality.overall.precision_at_1.value:.3f}\n")

    picture.unlink()  # a product that is gone: only the change costs anything
    run = shelfmark.reindex(
        catalog, store, backbone="mobilenetv3small", weights="random", image_size=64, k=5, min_overlap=0.0
    )
    print(run)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example"))

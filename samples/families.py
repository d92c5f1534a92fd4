"""Every family of products the catalog holds, and how each is drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from samples import clothes, footwear, household
from samples.design import Design
from samples.drawing import Sprite, Surface


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """One kind of product.

    Attributes:
        draw: Draws an item's parts on a surface.
        softness: How deep its folds are, 0 (hard goods) to 1.
        stands: Whether it is photographed standing on something, and not lying or hung.
    """

    draw: Callable[[Surface, Design], None]
    softness: float
    stands: bool


FAMILIES: dict[str, Family] = {
    "t-shirt": Family(clothes.draw_t_shirt, 1.0, stands=False),
    "mug": Family(household.draw_mug, 0.0, stands=True),
    "shoe": Family(footwear.draw_shoe, 0.2, stands=True),
    "bag": Family(household.draw_bag, 0.5, stands=True),
    "hoodie": Family(clothes.draw_hoodie, 1.0, stands=False),
    "bottle": Family(household.draw_bottle, 0.0, stands=True),
    "trousers": Family(clothes.draw_trousers, 0.8, stands=False),
    "lamp": Family(household.draw_lamp, 0.0, stands=True),
    "cap": Family(clothes.draw_cap, 0.4, stands=False),
    "carton": Family(household.draw_carton, 0.0, stands=True),
    "dress": Family(clothes.draw_dress, 0.9, stands=False),
    "boot": Family(footwear.draw_boot, 0.3, stands=True),
    "chair": Family(household.draw_chair, 0.2, stands=True),
    "badge": Family(household.draw_badge, 0.0, stands=False),
}


def draw_product(design: Design) -> Sprite:
    """Draws an item once; every view of it is a photograph of this."""
    family = FAMILIES[design.family]
    surface = Surface(design)
    family.draw(surface, design)
    return surface.finish(family.softness)

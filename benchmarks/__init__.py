"""Measurements, as ratios within one run. The project never imports them; its tests borrow their vectors."""

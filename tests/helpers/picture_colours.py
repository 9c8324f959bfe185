"""The pixels of a picture, and which of them have a colour."""

from pathlib import Path

import numpy as np


def picture(file: Path) -> np.ndarray:
    from matplotlib.image import imread

    return (imread(file)[..., :3] * 255).round().astype(int)


def of_colour(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Which pixels have a colour, bool [height, width]."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return np.abs(pixels - wanted).max(axis=2) <= 1

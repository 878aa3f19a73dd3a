"""Corrupted pictures for transfer sets, in the manner of CIFAR-C.

D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019. Three of its corruptions at three severities each, for small grey or colour pictures.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

# Mildest severity first; pixels count from 0 to 1.
NOISE = (0.08, 0.16, 0.24)  # standard deviation of the Gaussian noise
BLUR = (0.6, 1.0, 1.4)  # standard deviation of the Gaussian blur, in pixels
CONTRAST = (0.8, 0.6, 0.4)  # what is left of a pixel's distance from its channel's mean


def corrupt(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Corrupt uint8 pictures [n, H, W] or [n, H, W, C], each by the number of its row in the data set.

    Row r gets corruption number r % 9: its kind is r % 3 (noise, blur, contrast), its severity (r // 3) % 3.
    Its noise comes from `default_rng([0, r])`, so a picture looks the same whichever others it is asked for with.
    """
    rows = np.asarray(rows)
    corrupted = pixels / 255.0
    kinds = (_noise, NOISE), (_blur, BLUR), (_contrast, CONTRAST)
    for number in range(9):
        function, strengths = kinds[number % 3]
        chosen = rows % 9 == number
        corrupted[chosen] = function(corrupted[chosen], strengths[number // 3], rows[chosen])
    return np.rint(corrupted.clip(0, 1) * 255).astype(np.uint8)


def _noise(pictures: np.ndarray, deviation: float, rows: np.ndarray) -> np.ndarray:
    for picture, row in zip(pictures, rows, strict=True):
        picture += deviation * np.random.default_rng([0, row]).standard_normal(picture.shape)
    return pictures


def _blur(pictures: np.ndarray, deviation: float, rows: np.ndarray) -> np.ndarray:
    return gaussian_filter(pictures, deviation, mode="nearest", axes=(1, 2))


def _contrast(pictures: np.ndarray, kept: float, rows: np.ndarray) -> np.ndarray:
    mean = pictures.mean(axis=(1, 2), keepdims=True)
    return mean + kept * (pictures - mean)

"""Pictures cut into patches of like colour."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

COUNT = 49
SIDE = 7
FEWEST = 12  # with fewer patches than this, one says where the centre is and little else


def superpixels(image: Tensor, count: int = COUNT) -> Tensor:
    """About `count` patches of a picture [3, S, S] in 0..1: int64 [S, S], numbered from 0 without gaps.

    SLIC (Achanta 2012); where it finds too few, as on noise or an empty picture, a grid of 7 × 7.
    """
    from skimage.segmentation import slic

    pixels = image.detach().permute(1, 2, 0).cpu().double().numpy()
    if np.ptp(pixels) == 0:  # slic divides by the range
        return _grid(image)
    found = slic(pixels, n_segments=count, compactness=10, start_label=0, channel_axis=-1)
    numbered: NDArray[np.int64] = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    if numbered.max() + 1 < FEWEST:
        return _grid(image)
    return torch.from_numpy(numbered.astype(np.int64)).to(image.device)


def _grid(image: Tensor) -> Tensor:
    rows, cols = (torch.arange(side, device=image.device) * min(SIDE, side) // side for side in image.shape[1:])
    return rows[:, None] * min(SIDE, image.shape[2]) + cols

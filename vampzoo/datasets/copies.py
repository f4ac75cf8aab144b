"""Images that are in two splits: exact copies, pixel by pixel."""

import numpy as np


def copies(images, others):
    """Which images are among others, too: NumPy bool [N].

    Args:
        images: [N, H, W, C].
        others: [L, H, W, C] of the same type.
    """
    known = {image.tobytes() for image in np.ascontiguousarray(others)}
    return np.array([image.tobytes() in known for image in np.ascontiguousarray(images)], bool)

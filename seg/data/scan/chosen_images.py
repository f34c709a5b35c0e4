"""Which images of a split are worth a picture: those that show its rare classes."""

from collections.abc import Sequence

import numpy as np

from seg.data.scan.table import Scan


def images_of_rare_classes(scan: Scan, candidates: Sequence[int], count: int) -> list[int]:
    """Images that show each class well, those of the rarest classes first.

    How much an image shows of a class is measured by the class's share of its pixels: 1 for the
    image where that is largest, 0 for one without the class. Turn by turn, an image is chosen for
    the class that those chosen before show least; of classes shown alike, for the one with the
    fewest pixels. Of images that show at least half as much of it as the best one left, it is the
    one farthest from those chosen before, in the order of the split: neighbours are often alike.

    Args:
        scan: Of the split's masks.
        candidates: Indices of images to choose from.
        count: How many to choose; all candidates if there are no more.

    Returns:
        Indices, in the order of choice. They depend on the arguments alone.
    """
    indices = np.unique(np.asarray(candidates, np.int64))
    pixels = scan.pixels[indices]
    shares = pixels / scan.sizes[indices].prod(axis=1, dtype=np.int64, keepdims=True).clip(min=1)
    most = shares.max(axis=0, initial=0)
    views = shares / np.where(most > 0, most, 1)  # (n, c)
    left = np.ones(len(indices), bool)
    distance = np.full(len(indices), len(indices))
    shown = np.zeros(len(most))
    chosen: list[int] = []
    while left.any() and len(chosen) < count:
        to_show = np.flatnonzero(views[left].any(axis=0))
        image = int(left.argmax())  # where only images without any class are left
        if len(to_show):
            class_id = min(to_show, key=lambda c: (shown[c], pixels[:, c].sum()))
            view = np.where(left, views[:, class_id], 0)
            good = np.flatnonzero(view >= view.max() / 2)
            image = int(max(good, key=lambda i: (distance[i], view[i])))
        left[image] = False
        distance = np.minimum(distance, np.abs(np.arange(len(indices)) - image))
        shown += views[image]
        chosen.append(int(indices[image]))
    return chosen

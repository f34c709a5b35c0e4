"""Class id of every colour there is: exactly, or by the nearest colour within a distance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg.data.files.palettes import Palette, unpack

UNKNOWN = 254
"""What stands for values and colours without a class in a table of ids."""

_NUMBER = 2**24
"""Of the colours."""
_AT_ONCE = 2**16
"""Colours whose distances are found at once."""

Ids = NDArray[np.uint8]


class ColourTable:
    """Looks colours up in a table of 16 MB, which is filled as colours occur.

    Args:
        colours: RGB of the K colours that have an id.
        ids: Class id of each.
        tolerance: Euclidean distance in RGB within which a colour has the id of the nearest of
            them; of two as near, the first. 0 is that colour alone.
    """

    def __init__(
        self, colours: Sequence[Sequence[int]], ids: Sequence[int], tolerance: float
    ) -> None:
        self.ids: Ids = np.asarray(ids, np.uint8)
        self.tolerance = tolerance
        self._centres = np.asarray(colours, np.float32)
        self._table: Ids | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}  # a worker process fills its own

    def find(self, codes: Palette) -> Ids:
        """Class ids of colours 0xRRGGBB of any shape, `UNKNOWN` for those that have none."""
        table = self._filled()
        ids: Ids = np.take(table, codes)
        if self.tolerance <= 0 or not (missing := ids == UNKNOWN).any():
            return ids
        new = np.unique(codes[missing])
        for start in range(0, len(new), _AT_ONCE):
            some = new[start : start + _AT_ONCE]
            nearest, distance = self.nearest(some)
            table[some] = np.where(distance <= self.tolerance, self.ids[nearest], UNKNOWN)
        return np.take(table, codes)

    def nearest(self, codes: Palette) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Which of the K colours is nearest to each of N, and its distance.

        Squares of distances are whole numbers below 2²⁴, which float32 holds exactly.
        """
        channels = [codes >> shift & 255 for shift in (16, 8, 0)]
        points = np.stack(channels, 1).astype(np.float32)  # (n, 3)
        of_points, of_centres = ((of**2).sum(1) for of in (points, self._centres))
        squares = of_points[:, None] + of_centres - 2 * points @ self._centres.T  # (n, k)
        place = squares.argmin(1)
        return place, np.sqrt(squares[np.arange(len(place)), place])

    def told(self, codes: NDArray[Any], counts: NDArray[Any]) -> str:
        """The most frequent of colours that have no id, with the nearest that has."""
        code = codes[counts.argmax()]
        place, distance = self.nearest(np.array([code], np.uint32))
        others = f", and {len(codes) - 1} others" if len(codes) > 1 else ""
        return (
            f"colour {unpack(code)}, {distance[0]:.0f} from that of class {self.ids[place[0]]}"
            f"{others}"
        )

    def _filled(self) -> Ids:
        if self._table is None:
            table = np.full(_NUMBER, UNKNOWN, np.uint8)
            for colour, class_id in zip(self._centres.astype(np.int64), self.ids, strict=True):
                table[colour @ (2**16, 2**8, 1)] = class_id
            self._table = table
        return self._table

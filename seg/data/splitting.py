"""Splits in which every class has its share, of images and of pixels, and no group is divided."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg.errors import InputError

_STARTS = 20

Ints = NDArray[np.int64]


def stratify(
    pixels: NDArray[Any],
    groups: Sequence[str],
    fractions: Sequence[float],
    min_images: int = 1,
    seed: int = 0,
) -> Ints:
    """Divide images by iterative stratification.

    The rarest class that is left is dealt out first, its largest groups before the others. Each
    goes to the split that still lacks most of the class, its shares of the images and of the
    pixels added up, relative to the split's size (the paper's rule, which is absolute, would give
    all large groups to the largest split). Where a split then has too few images of a class,
    groups are moved or exchanged.

    Args:
        pixels: Pixels of each class in each image, (N, C).
        groups: What each image is a part of; images of a group stay together.
        fractions: Share of the images in each of the S splits, positive and 1 in all.
        min_images: Images with a class that each split has to have, for every class that occurs.
        seed: Of the order of what is equal.

    Returns:
        Index of the split of each image, (N,).

    Raises:
        InputError: If that cannot be met; with the class, its images and its groups.

    Reference:
        Sechidis et al., On the Stratification of Multi-Label Data, 2011, algorithm 1.
    """
    members, index = np.unique(np.asarray(groups), return_inverse=True)
    shows = np.zeros((len(members), pixels.shape[1]), np.int64)
    np.add.at(shows, index, pixels > 0)
    amounts = np.zeros((len(members), pixels.shape[1]))
    np.add.at(amounts, index, pixels)
    sizes = np.bincount(index)
    _check(shows, fractions, min_images)
    least: tuple[Any, Any] | None = None
    for start in range(_STARTS):
        generator = np.random.default_rng([seed, start])
        split = _deal(shows, amounts, sizes, np.array(fractions), generator)
        split = _mend(split, shows, len(fractions), min_images, generator)
        lacking = _lacking(split, shows, len(fractions), min_images)
        if not lacking.any():
            return np.asarray(split[index])
        if least is None or lacking.sum() < least[0].sum():
            least = lacking, _counts(split, shows, len(fractions))
    assert least is not None
    place, class_id = np.argwhere(least[0])[0]
    raise Unmet(int(class_id), int(place), int(least[1][place, class_id]))


class Unmet(InputError):
    """No division was found in which every split has enough images of every class.

    Attributes:
        class_id: A class of which a split has too few.
        split: Index of that split.
        images: How many it has in the best division found.
    """

    def __init__(self, class_id: int, split: int, images: int) -> None:
        super().__init__(f"class {class_id}: split {split} has {images} images of it at most")
        self.class_id = class_id
        self.split = split
        self.images = images


def _deal(
    shows: Ints,
    amounts: NDArray[np.float64],
    sizes: Ints,
    fractions: NDArray[np.float64],
    generator: np.random.Generator,
) -> Ints:
    """Split of each group, (G,)."""
    share = shows / np.maximum(shows.sum(0), 1) + amounts / np.maximum(amounts.sum(0), 1)
    # of what each split is to have, relative to that, so that all fill up alike
    wanted = np.full((len(fractions), share.shape[1]), 2.0)  # both shares
    room = np.ones(len(fractions))
    filled = sizes / sizes.sum()
    split = np.full(len(shows), -1)
    for group, class_id in _order(shows, share, sizes, generator):
        demand = room if class_id is None else wanted[:, class_id]
        place = _most(demand.tolist(), room.tolist(), generator)
        split[group] = place
        wanted[place] -= share[group] / fractions[place]
        room[place] -= filled[group] / fractions[place]
    return split


def _order(
    shows: Ints, share: NDArray[np.float64], sizes: Ints, generator: np.random.Generator
) -> Iterator[tuple[int, int | None]]:
    """Each group, and the class that it is dealt out for: the one with fewest carriers left.

    What is large comes first, while there is room for it; groups without a class come last.
    """
    carries = shows > 0
    left = np.ones(len(shows), bool)
    carriers = carries.sum(0)
    queues = [
        iter(_largest_first(np.flatnonzero(carries[:, c]), share[:, c], generator))
        for c in range(shows.shape[1])
    ]
    while carriers.any():
        class_id = int(np.where(carriers > 0, carriers, len(shows) + 1).argmin())
        group = next(g for g in queues[class_id] if left[g])
        left[group] = False
        carriers -= carries[group]
        yield group, class_id
    for group in _largest_first(np.flatnonzero(left), sizes, generator):
        yield group, None


def _largest_first(groups: Ints, values: NDArray[Any], generator: np.random.Generator) -> list[int]:
    """Groups by their value, equal ones in a random order."""
    order: list[int] = groups[np.lexsort((generator.random(len(groups)), -values[groups]))].tolist()
    return order


def _most(demand: list[float], room: list[float], generator: np.random.Generator) -> int:
    """The split that wants most, of equal ones that with most room."""
    best = _near_largest(demand, range(len(demand)))
    best = _near_largest(room, best)
    return best[0] if len(best) == 1 else int(generator.choice(best))


def _near_largest(values: list[float], among: Iterable[int]) -> list[int]:
    """Of some places those whose value is the largest, but for rounding."""
    among = list(among)
    top = max(values[i] for i in among)
    return [i for i in among if math.isclose(values[i], top, rel_tol=1e-9, abs_tol=1e-12)]


def _counts(split: Ints, shows: Ints, splits: int) -> Ints:
    """Images of each class in each split, (S, C)."""
    return np.stack([shows[split == place].sum(0) for place in range(splits)])


def _lacking(split: Ints, shows: Ints, splits: int, min_images: int) -> Ints:
    """Images of each class that each split has too few, (S, C)."""
    counts = _counts(split, shows, splits)
    lacking: Ints = np.maximum(_wanted(shows, min_images) - counts, 0)
    return lacking


def _wanted(shows: Ints, min_images: int) -> Ints:
    wanted: Ints = np.where(shows.sum(0) > 0, min_images, 0)
    return wanted


def _mend(
    split: Ints, shows: Ints, splits: int, min_images: int, generator: np.random.Generator
) -> Ints:
    """Exchange two groups, or move one, as long as that leaves less lacking."""
    split = split.copy()
    while (cells := np.argwhere(_lacking(split, shows, splits, min_images))).size:
        for place, class_id in generator.permutation(cells):
            change = _best_change(split, shows, splits, min_images, place, class_id)
            if change is not None:
                group, other = change
                if other is not None:
                    split[other] = split[group]
                split[group] = place
                break
        else:
            break
    return split


def _best_change(
    split: Ints, shows: Ints, splits: int, min_images: int, place: int, class_id: int
) -> tuple[int, int | None] | None:
    """A group with the class to bring to a split, and one to send back; None if none helps."""
    wanted, counts = _wanted(shows, min_images), _counts(split, shows, splits)
    there = _unlike(shows, np.flatnonzero(split == place))
    back = np.concatenate([shows[there], np.zeros((1, shows.shape[1]), np.int64)])
    best, change = 0, None
    marked = np.column_stack([shows, split])  # of equal groups in one split one will do
    for group in _unlike(marked, np.flatnonzero((shows[:, class_id] > 0) & (split != place))):
        own = counts[split[group]]
        before = np.maximum(wanted - own, 0).sum() + np.maximum(wanted - counts[place], 0).sum()
        moved = shows[group] - back  # (there + 1, C)
        after = np.maximum(wanted - own + moved, 0) + np.maximum(wanted - counts[place] - moved, 0)
        gains = before - after.sum(1)
        which = int(gains.argmax())  # of equal ones an exchange, which keeps the sizes
        if gains[which] > best:
            best = gains[which]
            change = int(group), int(there[which]) if which < len(there) else None
    return change


def _unlike(rows: Ints, among: Ints) -> Ints:
    """Of some groups those whose row occurs first."""
    found: Ints = among[np.sort(np.unique(rows[among], axis=0, return_index=True)[1])]
    return found


def _check(shows: Ints, fractions: Sequence[float], min_images: int) -> None:
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise InputError(f"--fractions {list(fractions)} must be positive and sum to 1.")
    if min_images < 0:
        raise InputError(f"--min_images {min_images} must be 0 or more.")
    if min_images and len(shows) < len(fractions):
        raise InputError(f"{len(shows)} groups cannot fill {len(fractions)} splits.")

"""Training augmentation; the only file that knows albumentations.

Upstream stopped in 2025, so everything around it speaks in arrays and class names only.
"""

import difflib
import inspect
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

from seg.errors import InputError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import asks the network otherwise

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from seg.constants import IGNORE_INDEX
from seg.data.augment.copy_paste import Components, Piece, paste_image, paste_mask, placed
from seg.data.augment.cropping import random_scaled_crop

Array = NDArray[Any]
TransformList = Sequence[Mapping[str, Mapping[str, Any]]]

_NEAREST = (0, 6)  # cv2.INTER_NEAREST and INTER_NEAREST_EXACT
_PROBE = 7  # a class id that no transform puts in by itself


def default_transforms(channels: int) -> list[dict[str, dict[str, Any]]]:
    """A flip and a photometric jitter that the number of channels allows."""
    flip: dict[str, dict[str, Any]] = {"HorizontalFlip": {"p": 0.5}}
    if channels != 3:
        limits = {"brightness_limit": 0.3, "contrast_limit": 0.3, "p": 0.5}
        return [flip, {"RandomBrightnessContrast": limits}]
    jitter = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05, "p": 0.5}
    return [flip, {"ColorJitter": jitter}]


class CopyPaste(A.DualTransform):  # type: ignore[misc]
    """Pastes components of rare classes from other training images.

    In `data.transforms` the data set itself gives the components:
    `[{CopyPaste: {classes: [crack], p: 0.5}}, {HorizontalFlip: {p: 0.5}}]`. Each is flipped and
    scaled at random, put anywhere, and pasted without blending. An image with its mask is read for
    it, which costs as much as reading a sample.

    Args:
        classes: Names (in `data.transforms`) or ids of the classes; left out, the rarest half of
            those in the training masks.
        count: Most components of a picture; they come from one image.
        scale: Range of the uniform scale.
        sources: The components, where the transform is used by itself.
        p: Share of the pictures that are pasted into.

    Raises:
        InputError: If a value is out of range, or a class has no component.

    Reference:
        Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance
        Segmentation, 2021, section 3.
    """

    class InitSchema(A.DualTransform.InitSchema):  # type: ignore[misc]
        """What albumentations would check; `__init__` does."""

        classes: Any
        count: Any
        scale: Any
        sources: Any

    def __init__(
        self,
        classes: Sequence[int | str] | None = None,
        count: int = 3,
        scale: Sequence[float] = (0.75, 1.33),
        sources: Components | None = None,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        if count < 1:
            raise InputError(f"CopyPaste: count {count} must be 1 or more.")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise InputError(
                f"CopyPaste: scale {list(scale)} must be [low, high], 0 < low <= high."
            )
        self.classes = classes
        self.count = count
        self.scale = (scale[0], scale[1])
        self.sources = sources

    def class_ids(self, class_names: Sequence[str]) -> list[int] | None:
        """Ids of the classes asked for; None if none was."""
        if self.classes is None:
            return None
        unknown = [c for c in self.classes if isinstance(c, str) and c not in class_names]
        if unknown:
            raise InputError(f"CopyPaste: {unknown} is no class; there are {list(class_names)}.")
        names = list(class_names)
        return [names.index(c) if isinstance(c, str) else c for c in self.classes]

    def get_params_dependent_on_data(self, params: Any, data: Any) -> dict[str, Any]:
        """The pieces, drawn from the transform's own generator."""
        if self.sources is None:
            raise InputError("CopyPaste has no components to paste; give sources=Components.of(…).")
        size, generator = params["shape"][:2], self.random_generator
        pieces = self.sources.cut(self.sources.draw(self.count, generator))
        return {"pieces": [placed(piece, size, self.scale, generator) for piece in pieces]}

    def apply(self, img: Array, pieces: list[Piece], **params: Any) -> Array:
        """The image with the pieces."""
        return paste_image(img, pieces)

    def apply_to_mask(self, mask: Array, pieces: list[Piece], **params: Any) -> Array:
        """The mask with the ids of the pieces."""
        return paste_mask(mask, pieces)


class TrainingTransform:
    """Random scale and crop, then a list of albumentations, a function of the sample's seed.

    Args:
        crop_size: Height and width of the crops.
        resize: Height and width that images have at scale 1; left out, their own.
        scale_jitter: Range of the random scale.
        transforms: One mapping of an albumentations class name to its arguments each; None for
            `default_transforms`, an empty list for none. Every `fill_mask` is the ignore index.
        channels: Channels of the images.

    Raises:
        InputError: If a size, a name or an argument is unknown, or a transform would change the
            size or the type of a crop, or write labels of its own.
    """

    def __init__(
        self,
        crop_size: Sequence[int],
        resize: Sequence[int] | None = None,
        scale_jitter: Sequence[float] = (0.75, 1.5),
        transforms: TransformList | None = None,
        channels: int = 3,
    ) -> None:
        self.crop_size = _size("crop_size", crop_size)
        self.resize = None if resize is None else _size("resize", resize)
        if len(scale_jitter) != 2 or not 0 < scale_jitter[0] <= scale_jitter[1]:
            raise InputError(
                f"data.scale_jitter {list(scale_jitter)} must be [low, high] with 0 < low <= high; "
                "[1, 1] is none."
            )
        self.scale_jitter = (scale_jitter[0], scale_jitter[1])
        entries = default_transforms(channels) if transforms is None else transforms
        self.steps = [_build(entry) for entry in entries]
        for entry, step in zip(entries, self.steps, strict=True):
            if not isinstance(step, CopyPaste):  # which has nothing to paste yet
                self._try_out(entry, channels)

    @property
    def copy_pastes(self) -> list[CopyPaste]:
        """The steps that wait for `sources`."""
        return [step for step in self.steps if isinstance(step, CopyPaste)]

    def __call__(
        self,
        image: Array,
        mask: Array,
        seed: Sequence[int],
        focus: tuple[int, int] | None = None,
    ) -> tuple[Array, Array]:
        """Augment an image (H, W, C) and its mask (H, W) to `crop_size`.

        Args:
            image: Image, uint8.
            mask: Class ids, uint8.
            seed: Numbers that decide on everything random, such as (seed, epoch, index).
            focus: Row and column of a pixel that the crop has to show; left out, any.
        """
        generator = np.random.default_rng(seed)
        image, mask = random_scaled_crop(
            image, mask, self.crop_size, generator, self.resize, self.scale_jitter, focus
        )
        # one stream for all steps: a seed of its own for each would make equal draws
        python_random = random.Random(int(generator.integers(2**63)))
        for step in self.steps:
            step.set_random_state(generator, python_random)
            sample = step(image=image, mask=mask)
            image, mask = sample["image"], sample["mask"]
        return image, mask

    def _try_out(self, entry: Mapping[str, Mapping[str, Any]], channels: int) -> None:
        """Run a transform at p = 1 and refuse what later code could not take."""
        (name, arguments), *_ = entry.items()
        step = _build({name: {**arguments, "p": 1.0}})
        for seed in range(2):
            step.set_random_state(np.random.default_rng(seed), random.Random(seed))
            image = np.full((*self.crop_size, channels), 128, np.uint8)
            mask = np.full(self.crop_size, _PROBE, np.uint8)
            try:
                sample = step(image=image, mask=mask)
            except Exception as error:
                raise InputError(
                    f"data.transforms: {name} fails on images of {channels} channels: {error}"
                ) from error
            found = sample["image"]
            if getattr(found, "dtype", None) != np.uint8 or found.shape != image.shape:
                raise InputError(
                    f"data.transforms: {name} turns uint8 {image.shape} into "
                    f"{getattr(found, 'dtype', type(found))} {tuple(found.shape)}; leave size to "
                    "data.resize and data.crop_size, and normalisation to the module."
                )
            labels = set(np.unique(sample["mask"]).tolist()) - {_PROBE, IGNORE_INDEX}
            if labels:
                raise InputError(
                    f"data.transforms: {name} writes labels {sorted(labels)} into masks where it "
                    "knows nothing; use a transform that takes fill_mask."
                )


def _build(entry: Mapping[str, Mapping[str, Any]]) -> Any:
    """One albumentations transform from `{name: arguments}`."""
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise InputError(f"data.transforms: {entry!r} is not one {{name: {{argument: value}}}}.")
    (name, arguments), *_ = entry.items()
    transform: Any = CopyPaste if name == CopyPaste.__name__ else getattr(A, name, None)
    if not (inspect.isclass(transform) and issubclass(transform, A.BasicTransform)):
        raise InputError(f"data.transforms: {name!r} is no transform{_close(name, _names())}.")
    parameters = inspect.signature(transform).parameters
    for argument in arguments or {}:
        if argument not in parameters:
            raise InputError(
                f"data.transforms: {name} takes no {argument!r}{_close(argument, [*parameters])}."
            )
    settings: dict[str, Any] = _safe_for_masks(name, dict(arguments or {}), parameters)
    try:
        return _strict(transform, settings)
    except (ValueError, TypeError) as error:
        raise InputError(f"data.transforms: {name}: {error}") from error


def _strict(transform: Any, settings: dict[str, Any]) -> Any:
    """The transform, with an error instead of a warning where its settings are wrong."""
    try:
        return transform(**{**settings, "strict": True})
    except TypeError:  # as of the few that do not check their settings, and take no such argument
        return transform(**settings)


def _safe_for_masks(
    name: str, arguments: dict[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    """The arguments with masks filled by the ignore index; refuse those that would blend labels."""
    if arguments.get("mask_interpolation", 0) not in _NEAREST:
        raise InputError(
            f"data.transforms: {name} with mask_interpolation {arguments['mask_interpolation']} "
            "would blend class ids; leave it out."
        )
    if "fill_mask" in parameters:
        default = parameters["fill_mask"].default  # None leaves the labels as they are
        arguments.setdefault("fill_mask", None if default is None else IGNORE_INDEX)
        if arguments["fill_mask"] not in (IGNORE_INDEX, None):
            raise InputError(
                f"data.transforms: {name} with fill_mask {arguments['fill_mask']} would label "
                f"unknown pixels; leave it out ({IGNORE_INDEX} is meant)."
            )
    return arguments


def _names() -> list[str]:
    known = [n for n, c in vars(A).items() if inspect.isclass(c)]
    return [CopyPaste.__name__, *(n for n in known if issubclass(getattr(A, n), A.BasicTransform))]


def _close(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(found)}?" if found else " of albumentations"


def _size(name: str, size: Sequence[int]) -> tuple[int, int]:
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"data.{name} {list(size)} must be [height, width] in pixels.")
    return size[0], size[1]

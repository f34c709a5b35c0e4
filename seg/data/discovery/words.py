"""Words in the names of files and folders: which are masks, which images, and of which split."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

MASK_WORDS = frozenset({
    "mask", "masks", "label", "labels", "lbl", "lab", "annotation", "annotations", "annot",
    "anno", "ann", "gt", "groundtruth", "truth", "seg", "segm", "segmentation", "segmentations",
    "segmask", "target", "targets", "trimap", "trimaps", "semantic", "semseg", "manual",
    "pixelmaps", "pixelmap",
})  # fmt: skip
IMAGE_WORDS = frozenset({
    "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pic", "rgb",
    "input", "inputs", "orig", "original", "raw", "scan", "scans", "frame", "frames",
})  # fmt: skip
OTHER_WORDS = frozenset({
    "instance", "instances", "object", "objects", "color", "colour", "colors", "colours",
    "preview", "previews", "vis", "viz", "visualization", "visualisation", "overlay", "overlays",
    "depth", "edge", "edges", "contour", "contours", "disparity", "coarse",
})  # fmt: skip
"""Of pictures that look like masks but say something else, or the same less well."""

SPLIT_WORDS = {
    "train": ("train", "training", "tr", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "ts", "tst"),
}
ROLE_OF = {word: role for role, words in SPLIT_WORDS.items() for word in words}
"""The role, train, val or test, of a word."""

_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CHUNK = re.compile(r"[A-Za-z0-9]+")
_NUMBERED = re.compile(r"[A-Za-z]*\d+|\d+[A-Za-z]*")
_JOINED = re.compile(
    f"(?P<a>{'|'.join(sorted(ROLE_OF, key=len, reverse=True))})(?P<b>[a-z]+)"
    f"|(?P<c>[a-z]+?)(?P<d>{'|'.join(sorted(ROLE_OF, key=len, reverse=True))})",
)


@dataclass(frozen=True)
class Part:
    """A folder's name, read.

    Attributes:
        text: The name, with `{split}` in the place of a split's.
        split: What stands there, such as "train"; "" if nothing does.
        words: Its words in lower case.
    """

    text: str
    split: str
    words: frozenset[str]

    @classmethod
    @lru_cache(maxsize=2**16)
    def of(cls, name: str) -> "Part":
        """Read a name such as `trainannot`, `imagesTr`, `train2017` or `val_masks`."""
        tokens = [*_tokens(name)]
        for text, start, end in tokens:
            if text.lower() in ROLE_OF:
                words = frozenset(t.lower() for t, *_ in tokens) - {text.lower()}
                return cls(f"{name[:start]}{{split}}{name[end:]}", text, words)
        if joined := _joined(name):
            return joined
        words = frozenset(t.lower() for t, *_ in tokens)
        return cls(name, "", words | {name.lower()})

    @property
    def speaks(self) -> bool:
        """Whether it says of which kind or of which split files are."""
        return bool(self.split or self.words & (MASK_WORDS | IMAGE_WORDS))


def _tokens(name: str) -> Iterator[tuple[str, int, int]]:
    return ((m[0], m.start(), m.end()) for m in _TOKEN.finditer(name))


def _joined(name: str) -> Part | None:
    """The part where the name of a split and a word stand together without a border."""
    match = _JOINED.fullmatch(name)
    if match is None:
        return None
    word = match["b"] or match["c"]
    if word not in MASK_WORDS | IMAGE_WORDS:
        return None
    split = match["a"] or match["d"]
    start = 0 if match["a"] else len(word)
    text = f"{name[:start]}{{split}}{name[start + len(split) :]}"
    return Part(text, split, frozenset({word}))


def affix(stem: str) -> tuple[str, str]:
    """What of a file's name before and after that of the sample says what it is.

    Of `IMG_1` that is `IMG_`, of `x_leftImg8bit` it is `_leftImg8bit`, of `mask001` it is `mask`.
    """
    chunks = [*_CHUNK.finditer(stem)]
    if not chunks:
        return "", ""
    first, last = chunks[0], chunks[-1]
    if number := re.match(r"([A-Za-z]+)\d", first[0]):
        before = number[1] if _says(number[1]) else ""
    else:
        before = stem[: chunks[1].start()] if len(chunks) > 1 and _says(first[0]) else ""
    start = len(stem)
    for chunk in reversed(chunks[1:]):
        if not _says(chunk[0]) or _NUMBERED.fullmatch(chunk[0]):
            break
        start = chunk.start()
    kept = (
        chunks[[c.start() for c in chunks].index(start) - 1].end() if start < len(stem) else start
    )
    if start == len(stem) and (number := re.search(r"\d([A-Za-z]+)$", last[0])):
        kept = len(stem) - len(number[1]) if _says(number[1]) else kept
    return (before, "") if before else ("", stem[kept:])


def _says(chunk: str) -> bool:
    words = {text.lower() for text, *_ in _tokens(chunk)} | {chunk.lower()}
    return bool(words & (MASK_WORDS | IMAGE_WORDS | OTHER_WORDS))


def words_of(text: str) -> frozenset[str]:
    """All words of a path or a name, in lower case."""
    words = {token.lower() for token, *_ in _tokens(text)}
    return frozenset(words | {chunk.lower() for chunk in _CHUNK.findall(text)})

"""CamVid with one of its videos as test split: a street that neither trains nor calibrates.

    python scripts/hold_out_video.py PATH FOLDER 0006R0

FOLDER gets the layout of PATH, of links to its files: train, trainannot, val, valannot without the
images of the video, and test, testannot with all of them.
"""

import argparse
import sys
from pathlib import Path


def main(root: Path, folder: Path, video: str) -> None:
    """Links the files; refuses a video that there is none of, and a folder that is there."""
    files = [path for split in ("train", "val") for path in (root / split).iterdir()]
    videos = sorted({path.stem.partition("_")[0] for path in files})
    if video not in videos:
        sys.exit(f"{root} has no video {video!r}, but {', '.join(videos)}.")
    if folder.exists():
        sys.exit(f"{folder} is there already; give a folder that is not.")
    for split in ("train", "val"):
        for kind in ("", "annot"):
            for path in sorted((root / f"{split}{kind}").iterdir()):
                chosen = "test" if path.stem.partition("_")[0] == video else split
                link = folder / f"{chosen}{kind}" / path.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("root", type=Path, metavar="PATH", help="the folder of CamVid")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made, of links")
    parser.add_argument("video", help="such as 0006R0")
    main(**vars(parser.parse_args()))

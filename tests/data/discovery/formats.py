"""Folders as annotation programs and data sets have them, small: each function makes one."""

import csv
import json

import numpy as np
import tifffile
from PIL import Image, ImageFilter

from tests.data.discovery.folders import (
    COLOURS,
    NUMBERS,
    coloured,
    index_mask,
    picture,
    save,
    write,
)


def two_folders(root):
    write(root, "images/{}.jpg", "masks/{}.png", NUMBERS)


def inside_splits(root):
    for split in ("train", "val", "test"):
        write(root, f"images/{split}/{{}}.jpg", f"masks/{split}/{{}}.png", NUMBERS[:4])


def outside_splits(root):
    for split in ("train", "valid"):
        write(root, f"{split}/images/{{}}.jpg", f"{split}/masks/{{}}.png", NUMBERS[:4])


def train_and_test_only(root):
    for split in ("train", "test"):
        write(root, f"{split}/{{}}.jpg", f"{split}_masks/{{}}_mask.gif", NUMBERS[:8])


def black_and_white(root):
    write(root, "{}_image.png", "{}_annotation.png", NUMBERS, values=(0, 255))


def colours(root):
    write(root, "IMG_{}.jpg", "GT_{}.png", NUMBERS, coloured)


def patients(root):
    names = [f"patient{i}_slice{j:02}" for i in range(6) for j in range(3)]
    write(root, "{}.tif", "{}_lab.tif", names)


def folders_of_patients(root):
    for patient in range(5):
        write(root, f"p{patient}/images/{{}}.png", f"p{patient}/masks/{{}}.png", NUMBERS[:3])


def voc(root):
    """Lists with a byte order mark and CRLF, images without a mask, masks of objects."""
    write(root, "JPEGImages/{}.jpg", "SegmentationClass/{}.png", NUMBERS)
    write(root, "JPEGImages/{}.jpg", "SegmentationObject/{}.png", NUMBERS)
    (root / "SegmentationClass/010.png").unlink()
    folder = root / "ImageSets/Segmentation"
    folder.mkdir(parents=True)
    (folder / "train.txt").write_bytes(b"\xef\xbb\xbf001\r\n002\r\n003\r\n")
    (folder / "val.txt").write_bytes(b"004\r\n005\r\n")
    (folder / "trainval.txt").write_text("\n".join(NUMBERS[:5]))


def cityscapes(root):
    for split, town in (("train", "ulm"), ("val", "bonn")):
        for kind in ("labelIds", "instanceIds"):
            write(root, f"leftImg8bit/{split}/{town}/{town}_{{}}_leftImg8bit.png",
                  f"gtFine/{split}/{town}/{town}_{{}}_gtFine_{kind}.png", NUMBERS[:4],
                  values=(7, 0, 33))  # fmt: skip


def ade20k(root):
    for split, short in (("training", "train"), ("validation", "val")):
        names = [f"ADE_{short}_{name}" for name in NUMBERS[:4]]
        write(root, f"images/{split}/{{}}.jpg", f"annotations/{split}/{{}}.png", names)


def camvid(root):
    for split in ("train", "val"):
        names = [f"0001TP_{split}{name}" for name in NUMBERS[:4]]
        write(root, f"{split}/{{}}.png", f"{split}annot/{{}}.png", names, values=(0, 3, 11))


def nnunet(root):
    write(root, "imagesTr/case_{}_0000.png", "labelsTr/case_{}.png", NUMBERS)
    write(root, "imagesTs/case_9{}_0000.png", "other/{}.png", NUMBERS[:2])
    for path in (root / "other").iterdir():
        path.unlink()
    labels = {"background": 0, "liver": 1, "tumour": 2}
    text = json.dumps({"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".png"})
    (root / "dataset.json").write_text(text)


def coco_stuff(root):
    for split in ("train", "val"):
        mask = f"annotations/stuff_{split}2017_pixelmaps/{{}}.png"
        write(root, f"images/{split}2017/{{}}.jpg", mask, NUMBERS[:4], values=(0, 92, 182))


def roboflow(root):
    for split in ("train", "valid", "test"):
        names = [f"{split}{name}_jpg.rf.{name}abc" for name in NUMBERS[:4]]
        write(root, f"{split}/{{}}.jpg", f"{split}/{{}}_mask.png", names)
        with (root / split / "_classes.csv").open("w", newline="") as stream:
            rows = [("Pixel Value", " Class"), (0, " background"), (1, " weed"), (2, " crop")]
            csv.writer(stream).writerows(rows)


def cvat(root):
    write(root, "JPEGImages/{}.jpg", "SegmentationClass/{}.png", NUMBERS, coloured)
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in
             zip(("background", "rust", "paint", "never"), COLOURS, strict=True)]  # fmt: skip
    text = "\n".join(["# label:color_rgb:parts:actions", *lines]) + "\n"
    (root / "labelmap.txt").write_text(text)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/default.txt").write_text("\n".join(NUMBERS))


def soft_edges(root):
    """Black and white with edges of grey, as drawing programs save them."""

    def smooth(mask):
        white = Image.fromarray((mask > 0).astype(np.uint8) * 255)
        return white.filter(ImageFilter.GaussianBlur(0.5))

    write(root, "photos/{}.jpg", "masks/{}.png", NUMBERS, smooth)


def jpeg_masks(root):
    write(root, "images/{}.png", "labels/{}.jpg", NUMBERS, values=(0, 255))


def with_palettes(root):
    def palette(mask):
        image = Image.fromarray(mask)
        image.putpalette([part for colour in COLOURS for part in colour])
        return image

    write(root, "image/{}.jpg", "label/{}.png", NUMBERS, palette)


def from_one(root):
    """Ids from 1, images of four bands."""
    for number, name in enumerate(NUMBERS):
        mask = index_mask(number, (1, 2, 3))
        bands = np.dstack([mask * 40 + i for i in range(4)])
        (root / "scenes").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(
            root / f"scenes/{name}.tif", bands, photometric="minisblack", planarconfig="contig"
        )
        save(root / f"gt/{name}.png", mask)


def one_bit(root):
    write(root, "{}/image.png", "{}/mask.png", NUMBERS, lambda m: m == 1, values=(0, 1))


def equal_channels(root):
    write(root, "a/{}.jpg", "b/{}.png", NUMBERS, lambda m: np.dstack([m] * 3), values=(0, 1, 2))


def _corners(value, mask):
    """The corners of the rectangle of a value, clockwise."""
    rows, columns = np.nonzero(mask == value)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def labelme(root):
    for number, name in enumerate(NUMBERS):
        mask = index_mask(number)
        save(root / f"{name}.jpg", picture(number, mask))
        shapes = [
            {"label": label, "points": np.array(_corners(value, mask), float).tolist(),
             "shape_type": "polygon"} for value, label in ((1, "rust"), (2, "paint"))
        ]  # fmt: skip
        content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{name}.jpg"}
        content |= {"imageData": None, "imageHeight": mask.shape[0], "imageWidth": mask.shape[1]}
        (root / f"{name}.json").write_text(json.dumps(content))


def coco(root):
    """A JSON a split; categories with gaps in their ids, one of them without an annotation."""
    for split in ("train", "val"):
        images, annotations = [], []
        for number, name in enumerate(NUMBERS[:4]):
            mask = index_mask(number)
            save(root / f"images/{split}2017/{name}.jpg", picture(number + 50 * len(split), mask))
            images.append({"id": number, "file_name": f"{name}.jpg", "height": 40, "width": 48})
            for value, category in ((1, 3), (2, 17)):
                polygon = np.array(_corners(value, mask), float).ravel().tolist()
                entry = {"id": len(annotations), "image_id": number, "category_id": category}
                annotations.append(entry | {"iscrowd": 0, "segmentation": [polygon]})
        names = {3: "car", 17: "cat", 90: "brush"}
        categories = [{"id": key, "name": name} for key, name in names.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = root / f"annotations/instances_{split}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))


def coco_runs(root):
    """Run lengths, compressed and not, some of crowds; one JSON for one folder."""
    from pycocotools import mask as coco_masks

    images, annotations = [], []
    for number, name in enumerate(NUMBERS):
        mask = index_mask(number)
        save(root / f"images/{name}.jpg", picture(number, mask))
        images.append({"id": number, "file_name": f"{name}.jpg", "height": 40, "width": 48})
        for value, category in ((1, 5), (2, 6)):
            packed = coco_masks.encode(np.asfortranarray(mask == value, np.uint8))
            runs = {"size": [40, 48], "counts": packed["counts"].decode()}
            if number % 2:
                flat = (mask == value).ravel(order="F")
                ends = np.flatnonzero(np.diff(flat, prepend=False, append=flat[-1])).tolist()
                runs["counts"] = np.diff([0, *ends, flat.size]).tolist()
            entry = {"id": len(annotations), "image_id": number, "category_id": category}
            annotations.append(entry | {"iscrowd": value - 1, "segmentation": runs})
    categories = [{"id": 5, "name": "car"}, {"id": 6, "name": "crowd of people"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))


FORMATS = [two_folders, inside_splits, outside_splits, train_and_test_only, black_and_white]
FORMATS += [colours, patients, folders_of_patients, voc, cityscapes, ade20k, camvid, nnunet]
FORMATS += [coco_stuff, roboflow, cvat, soft_edges, jpeg_masks, with_palettes, from_one, one_bit]
FORMATS += [equal_channels]
ANNOTATED = [labelme, coco, coco_runs]

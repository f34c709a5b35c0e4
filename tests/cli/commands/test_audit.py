"""Every figure of an audit against masks whose counts are known in closed form."""

import html
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from seg.audit import audit_data, recommend
from seg.audit.notation import percent
from seg.cli.data_parser import OF_A_RUN
from seg.data import SegmentationDataModule
from seg.errors import InputError
from seg.prediction.palette import default_colors
from tests.cli.test_app import seg
from tests.conftest import SMALL
from tests.report.test_audit_page import Page
from tests.report.test_sample_pictures import opened

NAMES = ["ground", "plate", "crack", "ghost"]


@pytest.fixture(autouse=True)
def own_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(root, split, name, mask, shade=0):
    for part in ("images", "masks"):
        (root / part / split).mkdir(parents=True, exist_ok=True)
    image = np.full((*mask.shape, 3), shade, np.uint8)
    Image.fromarray(image).save(root / f"images/{split}/{name}.png")
    Image.fromarray(mask).save(root / f"masks/{split}/{name}.png")


def two_masks(dtype):
    """20 × 10 with two plates of 12 and 4 pixels, a crack of 5 and 10 ignored; 8 × 6 of ground."""
    first = np.zeros((20, 10), dtype)
    first[0:3, 0:4] = 1
    first[10:12, 5:7] = 1
    first[np.arange(5) + 14, np.arange(5)] = 2  # diagonal: one component
    first[19] = 255
    return first, np.zeros((8, 6), dtype)


@pytest.fixture(params=[np.uint8, np.uint16], ids=["8 bits", "16 bits"])
def root(tmp_path, request):
    first, second = two_masks(request.param)
    write(tmp_path, "train", "a", first, 1)
    write(tmp_path, "train", "b", second, 2)
    write(tmp_path, "val", "c", second, 3)
    write(tmp_path, "val", "d", np.full((4, 4), 255, request.param), 4)
    return tmp_path


def audit(root, **options):
    options = {"crop_size": [8, 8], **options}
    data = SegmentationDataModule(root=str(root), class_names=NAMES, **options)
    return audit_data(data, lambda name, total: lambda: None)


def test_pixels_images_and_components_of_every_class(root):
    train = audit(root)["splits"]["train"]
    keys = ("name", "pixels", "images", "components", "median_component")
    assert [tuple(c[key] for key in keys) for c in train["classes"]] == [
        ("ground", 200 - 10 - 16 - 5 + 48, 2, 2, (169 + 48) / 2),
        ("plate", 16, 1, 2, 8.0),
        ("crack", 5, 1, 1, 5.0),
        ("ghost", 0, 0, 0, None),
    ]
    shares = [c["share"] for c in train["classes"]]
    assert shares == pytest.approx([217 / 238, 16 / 238, 5 / 238, 0])
    assert train["images"] == 2
    assert train["imbalance_ratio"] == pytest.approx(217 / 5)


def test_what_is_ignored_missing_or_of_one_class(root):
    splits = audit(root)["splits"]
    assert splits["train"]["ignored_pixels"] == 10
    assert splits["train"]["ignored_share"] == pytest.approx(10 / 248)
    assert splits["train"]["missing_classes"] == ["ghost"]
    assert splits["train"]["masks_of_one_class"] == 1
    assert splits["val"]["masks_all_ignored"] == 1
    assert splits["val"]["missing_classes"] == ["plate", "crack", "ghost"]
    assert splits["val"]["imbalance_ratio"] == 1


def test_sizes_against_the_crop(root):
    sizes = audit(root)["splits"]["train"]["sizes"]
    assert sizes == {
        "least": [8, 6],
        "median": [14, 8],
        "most": [20, 10],
        "smaller_than_crop": 1,  # 8 × 6 is narrower than 8
        "crop_share": pytest.approx((64 / 200 + 48 / 48) / 2),
    }


def test_a_crop_of_resized_images_is_measured_in_the_images_own_pixels(root):
    # at 16 × 16 a crop of 8 × 8 is a quarter of any image
    sizes = audit(root, resize=[16, 16])["splits"]["train"]["sizes"]
    assert sizes["crop_share"] == pytest.approx((10 * 5 / 200 + 4 * 3 / 48) / 2)
    assert sizes["smaller_than_crop"] == 0


def test_a_split_that_is_not_there_is_named_and_the_rest_audited(root):
    facts = audit(root)
    assert set(facts["splits"]) == {"train", "val"}
    assert list(facts["not_found"]) == ["test"]
    assert "test" in facts["not_found"]["test"]


def test_without_a_training_split_there_is_nothing_to_recommend(tmp_path):
    with pytest.raises(InputError, match="train"):
        audit(tmp_path)


def test_the_same_image_in_two_splits_is_found_by_its_bytes(root):
    assert audit(root)["duplicates"] == []
    copy = root / "images/val/c.png"
    copy.write_bytes((root / "images/train/b.png").read_bytes())
    assert audit(root)["duplicates"] == [[str(root / "images/train/b.png"), str(copy)]]


def test_a_label_outside_the_map_is_named_with_its_file_and_the_rest_counted(root):
    mask = two_masks(np.uint8)[1]
    mask[0, 0] = 77
    write(root, "train", "e", mask)
    train = audit(root)["splits"]["train"]
    (fault,) = train["unreadable"]
    assert "e.png" in fault
    assert "77" in fault
    assert train["classes"][0]["pixels"] == 217
    assert train["sizes"]["least"] == [8, 6]


def test_the_synthetic_set_is_audited_as_files_are():
    data = SegmentationDataModule(synthetic_length=4, synthetic_size=[64, 64])
    facts = audit_data(data, lambda name, total: lambda: None)
    train = facts["splits"]["train"]
    masks = [data.dataset("train").mask(i) for i in range(4)]
    for c, found in enumerate(train["classes"]):
        assert found["pixels"] == sum(int((mask == c).sum()) for mask in masks)
    assert facts["splits"]["train"]["images"] == 4


def recommended(counts, images=100, crop=(64, 64), resize=None, component=500.0, **changes):
    """Advice for classes of so many (pixels, images), in images of 128 × 128."""
    total = sum(pixels for pixels, _ in counts)
    facts = {
        "images": images,
        "classes": [
            {
                "name": f"class {i}",
                "pixels": pixels,
                "share": pixels / total,
                "images": shown,
                "components": shown,
                "median_component": component if shown else None,
            }
            for i, (pixels, shown) in enumerate(counts)
        ],
        "imbalance_ratio": max(p for p, _ in counts) / min(p for p, _ in counts if p),
        "sizes": {"median": [128.0, 128.0], "smaller_than_crop": 0, "crop_share": 0.25},
        **changes,
    }
    return recommend(facts, crop, resize)


def test_every_setting_has_a_reason_of_one_line():
    for counts in ([(100, 100), (90, 100)], [(1000, 100), (10, 5)]):
        reasons = recommended(counts).reasons
        assert {"loss", "policy", "gamma", "sampler", "crop", "monitor"} <= set(reasons)
        assert all(reason and "\n" not in reason for reason in reasons.values())


def test_balanced_classes_need_no_more_than_cross_entropy():
    config = recommended([(100, 100), (90, 100)]).config
    assert config["model"]["loss"] == {"class_path": "seg.losses.CrossEntropyLoss"}
    assert "data" not in config


def test_a_crop_larger_than_most_images_is_made_to_fit():
    sizes = {"median": [100.0, 80.0], "smaller_than_crop": 60, "crop_share": 1.0}
    advice = recommended([(1000, 100), (10, 100)], crop=(128, 128), sizes=sizes)
    assert advice.config["data"]["crop_size"] == [96, 64]
    assert "60 of 100" in advice.reasons["crop"]


@pytest.mark.parametrize(
    ("resize", "size", "crop"),
    [
        ((48, 48), [96, 96], [96, 96]),  # enlarged by 2 at most; 128 does not fit
        ((100, 100), [171, 171], [96, 96]),  # to 4/3 of their own 128; 109 to a multiple of 32
        ((64, 128), [85, 171], [64, 96]),  # as far as the less reduced side allows
        ((160, 160), None, None),  # nearly as large as that
        ((200, 200), None, None),
        (None, None, None),
    ],
)
def test_images_whose_rare_objects_are_made_small_are_made_larger(resize, size, crop):
    advice = recommended([(1000, 100), (10, 100)], resize=resize)
    found = advice.config.get("data", {})
    assert (found.get("resize"), found.get("crop_size")) == (size, crop)


def test_why_images_are_made_larger_is_said_in_pixels():
    reason = recommended([(1000, 100), (10, 100)], resize=(64, 64)).reasons["crop"]
    assert "class 1's components have 125 pixels or fewer" in reason  # a quarter of 500
    assert "takes 4 times" in reason  # 2² of the work


def test_images_of_balanced_or_of_large_objects_stay_as_they_are():
    rare = [(1000, 100), (10, 100)]
    kept = [
        recommended([(100, 100), (90, 100)], resize=(64, 64)),
        recommended(rare, resize=(64, 64), component=4.0 * 32**2),  # 32² where they are learnt
    ]
    assert not any("data" in advice.config for advice in kept)
    made_small = recommended(rare, resize=(64, 64), component=4.0 * 32**2 - 4)
    assert "resize" in made_small.config["data"]


@pytest.fixture
def files(root, tmp_path, capsys):
    """What the command says and writes."""
    test = ["--data.root", root, "--data.class_names", "[ground, plate, crack, ghost]"]
    output = tmp_path / "found"
    test += ["--data.crop_size=[8,8]", "--data.allow_empty_classes=true"]
    assert seg("audit", *test, "--output", output) == 0
    return capsys.readouterr().out, output


def test_the_command_prints_the_tables_and_writes_what_it_found(files):
    said, output = files
    facts = json.loads((output / "audit.json").read_text())
    assert facts["splits"]["train"]["classes"][2]["pixels"] == 5
    for text in (
        "imbalance ratio 43.4",
        "val: no pixel of plate, crack, ghost",
        "test: not audited",
    ):
        assert text in said
    for key, reason in facts["recommendation"].items():
        assert f"{key}: {reason}" in said


@pytest.mark.slow
def test_what_is_recommended_is_what_fit_takes(files, root, tmp_path):
    recommended = files[1] / "recommended.yaml"
    assert yaml.safe_load(recommended.read_text())["model"]["loss"]
    names = "--data.class_names=[ground, plate, crack]"
    data = ["--data.root", root, names, "-c", recommended]
    steps = ["--data.batch_size=2", "--trainer.default_root_dir", tmp_path / "out"]
    assert seg("fit", *SMALL, *data, *steps) == 0


def test_the_page_has_the_figures_of_the_json_and_pictures_of_each_rare_class(files, root):
    facts = json.loads((files[1] / "audit.json").read_text())
    text = (files[1] / "audit.html").read_text()
    page = Page(text)
    splits = facts["splits"].values()
    for row in page.tables["classes"][2:]:
        of_class = [split["classes"][int(row[1])] for split in splits]
        assert row[0] == of_class[0]["name"]
        shares, images = ([c[key] for c in of_class] for key in ("share", "images"))
        assert row[2:] == [*map(percent, shares), *map(str, images)]
    assert len(page.tables["classes"]) == 2 + len(NAMES)
    assert {str(root), "val: no pixel of plate, crack, ghost"} <= {*page.texts}
    assert any(text.startswith("seg audit --data.root") for text in page.texts)
    # ground, plate and crack occur; all are seen best in one image each
    assert [sample["image"] for sample in facts["samples"]] == ["a", "b"]
    shown = [name for sample in facts["samples"] for name in sample["best_of"]]
    assert sorted(shown) == ["crack", "ground", "plate"]
    assert len(page.pictures) == 4
    masks = [opened(p["src"], "png") for p in page.pictures if p["class"] == "mask"]
    first, second = two_masks(np.uint8)
    for mask, ids in zip(masks, (first, second), strict=True):
        for class_id, color in enumerate(default_colors(len(NAMES))):
            np.testing.assert_array_equal((mask == color).all(2), ids == class_id)


def test_of_many_images_those_are_shown_that_have_the_rarest_classes(tmp_path):
    for i in range(40):
        mask = np.zeros((16, 16), np.uint8)
        mask[:4] = 1
        if i in (9, 31):
            mask[15, : i // 9] = 2 + (i == 31)  # 1 pixel of crack, 3 of ghost
        write(tmp_path, "train", f"{i:02}", mask, i)
    samples = audit(tmp_path)["samples"]
    assert len(samples) == 8
    best = {name: sample["image"] for sample in samples for name in sample["best_of"]}
    assert (best["crack"], best["ghost"]) == ("09", "31")
    assert set(best) == set(NAMES)
    assert [sample["index"] for sample in samples] == [int(s["image"]) for s in samples]


def test_palettes_that_differ_between_splits_are_named_with_two_files_and_the_remedy(
    tmp_path, capsys
):
    for split, name, order in (("train", "a", (0, 1, 2)), ("val", "b", (0, 2, 1))):
        write(tmp_path, split, name, np.array([[0, 1, 2]], np.uint8).repeat(3, 0))
        path = tmp_path / f"masks/{split}/{name}.png"
        image = Image.open(path)
        colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
        image.putpalette(colours[list(order)].tobytes())
        image.save(path)
    for _ in range(2):  # the second time from memory
        (text,) = audit(tmp_path)["palettes"]
        assert f"index 1 is [0, 255, 0] in {tmp_path}/masks/val/b.png but [255, 0, 0] in " in text
        assert f"{tmp_path}/masks/train/a.png" in text
    config = tmp_path / "data.yaml"
    options = {"root": str(tmp_path), "class_names": NAMES, "crop_size": [8, 8]}
    options["allow_empty_classes"] = True
    config.write_text(yaml.safe_dump({"data": options}))
    assert seg("audit", "-c", config, "--output", tmp_path / "out") == 0
    assert text in capsys.readouterr().out
    assert text in html.unescape((tmp_path / "out/audit.html").read_text())
    colours = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 9, 9]]
    facts = audit(tmp_path, class_colors=colours)
    assert facts["palettes"] == []
    pixels = [[c["pixels"] for c in split["classes"]] for split in facts["splits"].values()]
    assert pixels == [[3, 3, 3, 0]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("form", ["-c FILE", "--config FILE", "--config=FILE", "-c=FILE"])
def test_of_the_configuration_of_a_run_the_data_alone_are_taken(form, root, tmp_path):
    of_data = {"root": str(root), "class_names": NAMES, "crop_size": [8, 8]}
    of_data["allow_empty_classes"] = True
    run = {"data": of_data, **{key: {"unknown": 1} for key in OF_A_RUN}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(run))
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": of_data}))
    given = form.replace("FILE", str(tmp_path / "config.yaml")).split()
    assert seg("audit", *given, "--output", tmp_path / "one") == 0
    assert seg("audit", "-c", tmp_path / "data.yaml", "--output", tmp_path / "two") == 0
    one, two = ((tmp_path / f / "audit.json").read_bytes() for f in ("one", "two"))
    assert one == two


def test_a_configuration_of_a_run_is_not_overwritten(root, tmp_path, capsys):
    of_data = {"root": str(root), "class_names": NAMES, "crop_size": [8, 8]}
    own = tmp_path / "recommended.yaml"
    own.write_text("# seg fit -c DATA.yaml\n" + yaml.safe_dump({"data": of_data, "model": {}}))
    before = own.read_bytes()
    assert seg("audit", "-c", own, "--output", tmp_path) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert own.read_bytes() == before

"""`seg calibrate` on a real run: what it writes is what validate, test and predict decide by."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from seg.calibration.whole_split import calibrate, collect
from seg.data import SegmentationDataModule
from seg.evaluation.metrics import confusion_matrix, scores
from seg.inference.whole_images import labels, predict_logits
from seg.lifecycle.checkpoint import load_module
from tests.cli.test_app import CONFIGS, per_class, run_of, seg
from tests.conftest import LIGHT, SMALL, SYNTHETIC, write_pairs

pytestmark = pytest.mark.slow

SOME = ["--data.synthetic_length=24", "--trainer.max_epochs=2"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The last checkpoint of a short run on generated images."""
    folder = tmp_path_factory.mktemp("runs")
    assert seg("fit", *SYNTHETIC, *SOME, "--trainer.default_root_dir", folder) == 0
    return run_of(folder) / "checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def calibrated(checkpoint):
    assert seg("calibrate", "--ckpt_path", checkpoint) == 0
    return checkpoint.with_name("last-calibrated.ckpt")


def held(path):
    return torch.load(path, weights_only=True)


def validation_counts(path, bias):
    """Confusion counts of the validation split, by the network and its biases alone."""
    module = load_module(str(path))
    data = SegmentationDataModule(synthetic_length=24, synthetic_size=[64, 64], num_workers=0)
    data.setup("validate")
    counts = 0
    for batch in data.val_dataloader():
        with torch.no_grad():
            images = module.normalise(batch["image"])
            logits = predict_logits(module.network, images, batch["mask"].shape[-2:])
        decided = labels(logits, None if bias is None else torch.tensor(bias))
        counts += confusion_matrix(decided, batch["mask"], len(module.class_names))
    return counts


def test_the_checkpoint_stays_as_it_is_and_the_new_one_has_the_same_weights(checkpoint, calibrated):
    before, after = held(checkpoint), held(calibrated)
    assert "calibration" not in before
    calibration = after.pop("calibration")
    assert set(calibration) == {"logit_bias", "temperature", "iou", "iou_biased"}
    assert any(calibration["logit_bias"])
    assert set(after) == set(before)
    for name, tensor in before["state_dict"].items():
        assert torch.equal(tensor, after["state_dict"][name]), name


def test_validate_decides_with_the_biases(checkpoint, calibrated, tmp_path):
    bias = held(calibrated)["calibration"]["logit_bias"]
    found = {}
    for path, used in ((checkpoint, None), (calibrated, bias)):
        folder = tmp_path / path.stem
        given = ["--ckpt_path", path, "--trainer.accelerator=cpu"]
        assert seg("validate", *given, "--output", folder) == 0
        expected = scores(validation_counts(path, used))
        found[path] = per_class(folder)["miou"]
        assert found[path] == pytest.approx(expected.miou, abs=1e-12)
    assert found[calibrated] > found[checkpoint]


def rows_of(printed, heading):
    """The cells below a heading of a printed table, by class and of the mean."""
    lines = printed.splitlines()
    top = next(i for i, line in enumerate(lines) if line.split()[:1] == ["class"])
    end = re.search(rf"\s{heading}(\s|$)", lines[top]).end(0) - 1
    rows = [line for line in lines[top + 2 :] if line.strip()]
    rows = rows[: 1 + next(i for i, row in enumerate(rows) if row.split()[0] == "mean")]
    return {row.split()[0]: row[:end].split()[-1] for row in rows}


def validated(path, folder, capsys):
    """What `seg validate` prints of a checkpoint, and the IoU that it writes."""
    given = ["--ckpt_path", path, "--trainer.accelerator=cpu", "--output", folder / path.stem]
    capsys.readouterr()
    assert seg("validate", *given) == 0
    return capsys.readouterr().out, [c["iou"] for c in per_class(folder / path.stem)["classes"]]


def test_what_it_prints_of_the_checkpoint_is_what_validate_prints(checkpoint, tmp_path, capsys):
    target = tmp_path / "new.ckpt"
    assert seg("calibrate", "--ckpt_path", checkpoint, "--output", target) == 0
    said, calibration = capsys.readouterr().out, held(target)["calibration"]
    plain, iou = validated(checkpoint, tmp_path, capsys)
    assert rows_of(said, "IoU") == rows_of(plain, "IoU")
    assert calibration["iou"] == iou
    # of the new one it prints other images' scores, and says so
    shown = [f"{iou:.3f}" for iou in calibration["iou_biased"]]
    shown.append(f"{np.mean(calibration['iou_biased']):.3f}")
    assert [*rows_of(said, "calibrated").values()] == shown
    mean = rows_of(validated(target, tmp_path, capsys)[0], "IoU")["mean"]
    (line,) = [x for x in said.splitlines() if x.startswith("seg validate of the new")]
    assert f"gives mean IoU {mean}: it scores images that its biases were fitted to" in line


def test_the_figures_after_are_of_whole_images_that_the_biases_were_not_fitted_to(checkpoint):
    module = load_module(str(checkpoint))
    data = SegmentationDataModule(synthetic_length=24, synthetic_size=[64, 64], num_workers=0)
    found = calibrate(module, data)
    unit = collect(module, data)[2]
    parts, counts = iter(found.fit.parts.tolist()), 0
    for batch in data.val_dataloader():
        with torch.no_grad():
            logits = module.logits_of_size(batch["image"], batch["mask"].shape[-2:])
        for one, mask in zip(logits, batch["mask"], strict=True):
            bias = torch.tensor(found.fit.held_out[next(parts)] * unit).float()
            counts += confusion_matrix(labels(one[None], bias)[0], mask, len(module.class_names))
    assert found.fit.after.tolist() == scores(counts).iou.tolist()
    module.set_calibration(found.record)
    expected = validation_counts(checkpoint, module.logit_bias.tolist())
    assert found.iou.tolist() == scores(expected).iou.tolist()


def test_test_and_predict_decide_with_the_biases(calibrated, tmp_path):
    assert seg("test", "--ckpt_path", calibrated, "--output", tmp_path / "test") == 0
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    given = ["--data.root=null", "--data.predict", tmp_path / "a.png"]
    assert seg("predict", "--ckpt_path", calibrated, *given, "--output", tmp_path / "out") == 0
    predicted = np.array(Image.open(tmp_path / "out/a.png"))
    module = load_module(str(calibrated))
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    assert np.array_equal(predicted, module.labels(tensor)[0].numpy())
    module.set_calibration(None)
    plain = module.labels(tensor)[0].numpy()
    with torch.no_grad():
        logits = predict_logits(module.network, module.normalise(tensor), None)
    assert np.array_equal(plain, labels(logits)[0].numpy())


def test_the_command_says_what_it_gained_and_what_to_do_next(checkpoint, tmp_path, capsys):
    output = tmp_path / "other.ckpt"
    assert seg("calibrate", "--ckpt_path", checkpoint, "--output", output, "--rarest", 2) == 0
    said = capsys.readouterr().out
    for text in ("mean IoU of 2 classes", "temperature", f"seg test --ckpt_path {output}", "ECE"):
        assert text in said


def test_an_overconfident_network_gains_as_much_at_any_scale_of_its_logits(checkpoint, tmp_path):
    found = []
    for factor in (2, 8):
        scaled = held(checkpoint)
        for name, tensor in scaled["state_dict"].items():
            if "segmentation_head" in name:
                tensor *= factor
        torch.save(scaled, tmp_path / "scaled.ckpt")
        assert seg("calibrate", "--ckpt_path", tmp_path / "scaled.ckpt") == 0
        found.append(held(tmp_path / "scaled-calibrated.ckpt")["calibration"])
    first, second = found
    assert first["temperature"] > 2
    assert second["temperature"] == pytest.approx(4 * first["temperature"], rel=1e-3)
    assert second["iou_biased"] == pytest.approx(first["iou_biased"], abs=3e-3)
    assert np.mean(first["iou_biased"]) > np.mean(first["iou"])
    stretched = [4 * bias for bias in first["logit_bias"]]
    step = 4 * first["temperature"] / 8
    assert second["logit_bias"] == pytest.approx(stretched, abs=2 * step)


def test_removing_the_calibration_gives_the_checkpoint_back(checkpoint, calibrated, tmp_path):
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(calibrated.read_bytes())
    assert seg("calibrate", "--ckpt_path", copy, "--remove") == 0
    before, after = held(checkpoint), held(copy)
    assert set(before) == set(after)
    assert json.dumps(before["config"]) == json.dumps(after["config"])
    for name, tensor in before["state_dict"].items():
        assert torch.equal(tensor, after["state_dict"][name])


def test_calibrating_again_begins_with_the_bare_logits(calibrated, tmp_path):
    again = tmp_path / "again.ckpt"
    assert seg("calibrate", "--ckpt_path", calibrated, "--output", again) == 0
    assert held(again)["calibration"] == held(calibrated)["calibration"]


def test_training_on_leaves_the_calibration_out(tmp_path, caplog):
    place = ["--trainer.default_root_dir", tmp_path]
    assert seg("fit", *SYNTHETIC, *LIGHT, *SOME, "--trainer.max_epochs=1", *place) == 0
    path = run_of(tmp_path) / "checkpoints/last.ckpt"
    assert seg("calibrate", "--ckpt_path", path) == 0
    path.with_name("last-calibrated.ckpt").replace(path)
    assert "calibration" in held(path)
    assert seg("fit", "--ckpt_path", path, "--trainer.max_epochs=2") == 0
    assert "calibration is left out" in caplog.text
    assert "calibration" not in held(path)


def test_priors_are_named_by_class(checkpoint, tmp_path, capsys):
    names = held(checkpoint)["class_names"]
    output = tmp_path / "priors.ckpt"
    given = json.dumps({name: 1 / len(names) for name in reversed(names)})
    options = ["--ckpt_path", checkpoint, "--output", output, "--data.synthetic_length=64"]
    assert seg("calibrate", *options, "--priors", given) == 0
    assert any(held(output)["calibration"]["logit_bias"])
    assert "prior" in capsys.readouterr().out
    assert seg("calibrate", *options, "--priors", '{"nothing": 1.0}') == 2
    assert "expected a share for each of" in capsys.readouterr().err


def test_a_checkpoint_is_needed(capsys, tmp_path):
    assert seg("calibrate") == 2
    assert "give --ckpt_path FILE" in capsys.readouterr().err
    assert seg("calibrate", "--ckpt_path", tmp_path / "none.ckpt") == 2
    assert "no such checkpoint" in capsys.readouterr().err
    assert seg("calibrate", "--ckpt_path", tmp_path / "none.ckpt", "--remove") == 2


def test_the_histograms_hold_every_pixel_of_the_split(checkpoint):
    module = load_module(str(checkpoint))
    data = SegmentationDataModule(synthetic_length=24, synthetic_size=[64, 64], num_workers=0)
    odds, pixels, _ = collect(module, data)
    assert len(odds) == len(data.dataset("val"))
    expected = validation_counts(checkpoint, None)
    assert sum(int(image.counts.sum()) for image in odds) == int(expected.sum())
    assert len(pixels.labels) == sum(min(4096, int(image.counts.sum())) for image in odds)


def test_what_does_not_fit_into_memory_is_thinned(checkpoint, monkeypatch):
    data = SegmentationDataModule(synthetic_length=24, synthetic_size=[64, 64], num_workers=0)
    module = load_module(str(checkpoint))
    every, pixels, _ = collect(module, data)
    room = max(sum(array.nbytes for array in image) for image in every) // 2
    count = len(data.dataset("val"))
    monkeypatch.setattr("seg.calibration.whole_split.KEPT", count * room)
    thinned, fewer, _ = collect(module, data)
    assert max(sum(array.nbytes for array in image) for image in thinned) <= room
    for one, other in zip(thinned, every, strict=True):
        assert one.counts.sum() == pytest.approx(other.counts.sum(), rel=0.02)
    assert fewer.logits.nbytes <= count * room < pixels.logits.nbytes


def test_a_network_of_one_logit_gets_one_bias(tmp_path):
    for seed, split in enumerate(("train", "val")):
        folders = (tmp_path / kind / split for kind in ("images", "masks"))
        write_pairs(*folders, 6, (40, 48), [0, 255], seed)
    files = [CONFIGS / "data/binary.yaml", CONFIGS / "loss/binary_cross_entropy.yaml"]
    given = [arg for file in files for arg in ("-c", file)]
    place = ["--data.root", tmp_path, "--trainer.default_root_dir", tmp_path / "runs"]
    assert seg("fit", *given, *SMALL, *LIGHT, *place) == 0
    path = run_of(tmp_path / "runs") / "checkpoints/last.ckpt"
    assert seg("calibrate", "--ckpt_path", path) == 0
    calibration = held(path.with_name("last-calibrated.ckpt"))["calibration"]
    assert len(calibration["logit_bias"]) == 1
    assert len(calibration["iou_biased"]) == 2
    module = load_module(str(path.with_name("last-calibrated.ckpt")))
    image = torch.randint(0, 256, (1, 3, 40, 48), generator=torch.Generator().manual_seed(0)).byte()
    with torch.no_grad():
        z = predict_logits(module.network, module.normalise(image), None)[:, 0]
    assert torch.equal(module.labels(image), (z > -calibration["logit_bias"][0]).byte())

"""Networks of other libraries from the command line: trained, judged, predicted with, exported."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from seg.cli import app as cli
from seg.inference import predict_logits
from seg.lifecycle.checkpoint import load_module
from tests.conftest import SMALL, SYNTHETIC, write_pairs

pytestmark = pytest.mark.slow

MODULE = "tests.own_networks"
NETWORKS = {
    "segformer": [f"--model.network={MODULE}.SegFormer", "--model.input_stride=32"],
    "vit": [
        f"--model.network={MODULE}.ViT",
        "--model.network.side=32",
        "--model.input_size=[32,32]",
    ],
    "stride_16": [f"--model.network={MODULE}.Stride16", "--model.input_stride=16"],
}
DATA = ["--data.class_names=[a,b,c]", "--data.crop_size=[24,40]"]
TRUST = "--trust=[tests]"


def seg(*args):
    return cli.main([str(arg) for arg in args])


@pytest.fixture(scope="module", params=NETWORKS)
def run(request, tmp_path_factory):
    """A run on crops and images of which no size divides by a stride; its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    root = folder / "data"
    for split in ("train", "val", "test"):
        write_pairs(root / "images" / split, root / "masks" / split, 4, (40, 56), range(3))
    data = [
        *SMALL,
        "--data.root",
        root,
        "--data.class_names=[a,b,c]",
        "--data.crop_size=[24,40]",
    ]
    given = [*data, *NETWORKS[request.param], "--trainer.default_root_dir", folder / "runs"]
    assert seg("fit", *given) == 0
    (found,) = (folder / "runs").glob("*/version_0")
    return found


def per_class(folder):
    return json.loads((folder / "per_class.json").read_text())


def pixels_of(path):
    with Image.open(path) as image:
        return np.array(image)


def best(run):
    return run / "checkpoints" / "best.ckpt"


def root_of(run):
    return run.parents[2] / "data"


def test_a_checkpoint_knows_what_sizes_its_network_takes(run):
    module = load_module(str(best(run)), ["tests"])
    config = yaml.safe_load((run / "config.yaml").read_text())["model"]
    assert module.input_sizes.stride == (config["input_stride"] or 1)
    assert module.input_sizes.size == (
        tuple(config["input_size"]) if config["input_size"] else None
    )
    image = torch.zeros(1, 3, 41, 57, dtype=torch.uint8)
    assert module(image).shape == (1, 3, 41, 57)
    assert module.labels(image).shape == (1, 41, 57)


def test_validate_repeats_the_fits_figures_and_predict_the_labels_of_the_module(run, tmp_path):
    given = ["--ckpt_path", best(run), TRUST]
    assert seg("validate", *given, "--output", tmp_path / "val") == 0
    record, fitted = (
        json.loads((f / "per_class.json").read_text()) for f in (tmp_path / "val", run)
    )
    assert record == fitted
    images = root_of(run) / "images" / "test"
    assert seg("predict", *given, "--data.predict", images, "--output", tmp_path / "out") == 0
    module = load_module(str(best(run)), ["tests"])
    for path in sorted(images.iterdir()):
        pixels = torch.from_numpy(pixels_of(path)).permute(2, 0, 1)[None]
        found = pixels_of(next((tmp_path / "out").glob(f"{path.stem}*.png")))
        expected = module.labels(pixels)[0].numpy()
        assert found.shape == expected.shape == pixels.shape[-2:]
        assert (found == expected).mean() > 0.999  # kernels round otherwise in a batch


def test_predict_at_another_size_gives_the_labels_of_the_logits_at_the_images_own(run, tmp_path):
    images = root_of(run) / "images" / "test"
    given = ["--ckpt_path", best(run), TRUST, "--data.predict", images, "--data.resize=[30,44]"]
    assert seg("predict", *given, "--output", tmp_path / "out") == 0
    for path in images.iterdir():
        found = pixels_of(next((tmp_path / "out").glob(f"{path.stem}*.png")))
        assert found.shape == pixels_of(path).shape[:2]


def test_an_exported_program_gives_the_labels_of_the_module(run, tmp_path):
    args = ["--ckpt_path", best(run), "--trust=[tests]", "--output", tmp_path / "x.pt2"]
    assert seg("export", *args, "--size=[40,56]") == 0
    program = torch.export.load(str(tmp_path / "x.pt2")).module()
    images = torch.randint(0, 256, (3, 3, 40, 56), dtype=torch.uint8)
    expected = load_module(str(best(run)), ["tests"]).labels(images)
    assert (program(images) == expected).float().mean() > 0.999


def test_calibration_sees_the_logits_that_predictions_are_made_of(run, tmp_path):
    args = ["--ckpt_path", best(run), "--trust=[tests]", "--output", tmp_path / "c.ckpt"]
    assert seg("calibrate", *args) == 0
    module = load_module(str(best(run)), ["tests"])
    image = torch.randint(0, 256, (1, 3, 40, 56), dtype=torch.uint8)
    logits = module.logits_of_size(image, (20, 28))
    expected = predict_logits(module.network, module.normalise(image), (20, 28), module.input_sizes)
    assert torch.equal(logits, expected)


def test_a_resumed_run_and_a_fine_tuning_know_the_sizes_too(run, tmp_path):
    folder = ["--trainer.default_root_dir", tmp_path / "runs"]
    data = [*DATA, "--data.root", root_of(run)]
    source = ["--model.init_from", best(run), TRUST]
    assert seg("fit", *SMALL, *data, *source, *folder) == 0
    (path,) = (tmp_path / "runs").glob("*/version_0/checkpoints/last.ckpt")
    assert seg("fit", "--ckpt_path", path, TRUST, "--trainer.max_epochs=2") == 0
    known = [load_module(str(p), ["tests"]).input_sizes for p in (best(run), path)]
    assert known[0] == known[1]


DEEPLAB = ["--model.network=segmentation_models_pytorch.DeepLabV3Plus"]
DEEPLAB += ["--model.network.encoder_name=resnet18", "--model.network.encoder_weights=null"]


@pytest.mark.parametrize(
    "sizes",
    [
        ["--data.batch_size=1"],
        ["--data.batch_size=4", "--model.micro_batch_size=1"],
        ["--data.batch_size=5", "--model.micro_batch_size=2"],
    ],
)
def test_a_batch_norm_over_one_image_is_refused_in_one_line(sizes, tmp_path, capsys):
    args = [*SYNTHETIC, *DEEPLAB, *sizes, f"--trainer.default_root_dir={tmp_path}"]
    assert seg("fit", *args) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "seg: error" in x]
    assert "DeepLabV3Plus has a batch norm over one value a channel, as 1 image went" in line
    assert "data.batch_size" in line
    assert "model.micro_batch_size" in line


@pytest.mark.parametrize(
    ("name", "encoder", "crop"),
    [
        ("PAN", "resnet18", "[128,128]"),
        ("DPT", "tu-vit_tiny_patch16_224", "[224,224]"),
        ("DeepLabV3Plus", "resnet18", "[32,48]"),
    ],
)
def test_networks_of_smp_that_take_certain_crops_train(name, encoder, crop, tmp_path):
    network = [f"--model.network=segmentation_models_pytorch.{name}"]
    network += [f"--model.network.encoder_name={encoder}", "--model.network.encoder_weights=null"]
    size = ["--model.input_size=[224,224]"] if name == "DPT" else []
    size += ["--model.network.decoder_fusion_channels=16"] if name == "DPT" else []
    data = ["--data.synthetic_length=4", f"--data.crop_size={crop}", "--data.batch_size=2"]
    data += ["--data.synthetic_size=[240,256]", f"--trainer.default_root_dir={tmp_path}"]
    assert seg("fit", *SMALL, *network, *size, *data, "--trainer.fast_dev_run=true") == 0


def test_images_that_a_network_does_not_take_are_refused_in_one_line(tmp_path, capsys):
    network = [f"--model.network={MODULE}.ViT", "--model.network.side=32"]
    assert seg("fit", *SYNTHETIC, *network, f"--trainer.default_root_dir={tmp_path}") == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "seg: error" in x]
    assert "ViT fails on an image of 64 x 64: AssertionError: Input height (64)" in line
    assert "model.input_size" in line


def test_an_smp_network_with_a_head_for_classes_trains_its_mask(tmp_path, caplog):
    aux = '--model.network.aux_params={"classes": 4}'
    caplog.set_level("INFO", "seg")
    assert seg("fit", *SYNTHETIC, aux, f"--trainer.default_root_dir={tmp_path}") == 0
    assert "Unet gives 2 outputs, of which the first is trained and used. Unused: " in caplog.text


def test_an_activation_is_refused_before_the_first_step(tmp_path, capsys):
    given = ["--model.network.activation=softmax2d", f"--trainer.default_root_dir={tmp_path}"]
    assert seg("fit", *SYNTHETIC, *given) == 2
    assert "Unet ends in a softmax" in capsys.readouterr().err

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import tifffile
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import jaccard_score

from seg.cli import app as cli
from seg.cli.command_table import COMMANDS, Command
from seg.cli.data_parser import OF_A_RUN
from seg.lifecycle.checkpoint import load_module
from seg.networks import load_network_weights
from tests.conftest import LIGHT, SMALL, SYNTHETIC, write_pairs

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CAMVID_NAMES = yaml.safe_load((CONFIGS / "data/camvid.yaml").read_text())["data"]["class_names"]
CAMVID = ["-c", str(CONFIGS / "data" / "camvid.yaml"), "--data.resize=[32,48]", *SMALL, *LIGHT]


def seg(*args):
    """Run the command in this process; its exit status."""
    return cli.main([str(arg) for arg in args])


def run_of(folder):
    (run,) = folder.glob("*/version_0")
    return run


def per_class(folder):
    return json.loads((folder / "per_class.json").read_text())


@pytest.fixture(scope="module")
def camvid_run(camvid_like, tmp_path_factory):
    """A run on the small CamVid with policy weights; its folder."""
    folder = tmp_path_factory.mktemp("runs")
    loss = CONFIGS / "loss" / "focal.yaml"
    given = ["--data.root", camvid_like, "--trainer.default_root_dir", folder]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEG_TEST_CURVES", "1")
        assert seg("fit", *CAMVID, "-c", loss, *given, "--name", "small") == 0
    return run_of(folder)


def checkpoint_of(run):
    return run / "checkpoints" / "best.ckpt"


@pytest.mark.slow
def test_a_run_leaves_everything_that_a_person_looks_at(camvid_run):
    assert camvid_run.parent.name == "small"
    found = {path.name for path in camvid_run.iterdir()}
    expected = {"config.yaml", "metrics.csv", "curves.png", "per_class.csv", "per_class.json"}
    assert expected | {"checkpoints", "previews", "per_image.csv"} <= found
    assert {path.name for path in (camvid_run / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
    }
    assert list(camvid_run.glob("events.out.tfevents.*"))
    for picture in [camvid_run / "curves.png", *(camvid_run / "previews").glob("*.png")]:
        Image.open(picture).verify()
    config = yaml.safe_load((camvid_run / "config.yaml").read_text())
    assert config["model"]["network"]["init_args"]["classes"] == 11


def test_commands_that_read_data_alone_know_all_else_of_a_run(camvid_run):
    config = yaml.safe_load((camvid_run / "config.yaml").read_text())
    assert config.keys() == OF_A_RUN | {"data"}


def test_everything_that_may_be_watched_is_logged(camvid_run):
    header = (camvid_run / "metrics.csv").read_text().splitlines()[0].split(",")
    module = load_module(str(checkpoint_of(camvid_run)))
    assert set(module.validation_metrics) <= set(header)


def test_the_figures_of_the_files_are_those_of_the_log(camvid_run):
    record = per_class(camvid_run)
    assert record["images"] == 5
    assert len(record["classes"]) == 11
    metrics = (camvid_run / "metrics.csv").read_text().splitlines()
    column = metrics[0].split(",").index("val/miou")
    (logged,) = [float(v) for line in metrics[1:] if (v := line.split(",")[column])]
    assert record["miou"] == pytest.approx(logged, rel=1e-6)


def test_validate_needs_the_checkpoint_alone_and_repeats_the_fits_figures(
    camvid_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    given = ["--ckpt_path", checkpoint_of(camvid_run), "--trainer.accelerator=cpu"]
    assert seg("validate", *given, "--output", "out") == 0
    assert per_class(tmp_path / "out") == per_class(camvid_run)
    assert "bicyclist" in capsys.readouterr().out


@pytest.mark.slow
def test_test_scores_equal_scikit_learns_on_the_predictions_of_predict(
    camvid_run, camvid_like, tmp_path
):
    given = ["--ckpt_path", checkpoint_of(camvid_run)]
    assert seg("test", *given, "--output", tmp_path / "test") == 0
    images = camvid_like / "test"
    out = tmp_path / "masks"
    assert seg("predict", *given, "--data.predict", images, "--output", out) == 0
    truth, guess = [], []
    for path in sorted(images.iterdir()):
        mask = np.asarray(Image.open(camvid_like / "testannot" / f"{path.stem}.png"))
        prediction = np.asarray(Image.open(next(out.glob(f"{path.stem}*.png"))))
        assert prediction.shape == mask.shape
        truth.append(mask[mask != 11])
        guess.append(prediction[mask != 11])
    record = per_class(tmp_path / "test")
    assert record["miou_interval"] is None  # of three images nothing can be said
    assert {c["iou_interval"] for c in record["classes"]} == {None}
    assert [c["images"] for c in record["classes"]] == [
        sum(class_id in mask for mask in truth) for class_id in range(11)
    ]
    expected = jaccard_score(
        np.concatenate(truth), np.concatenate(guess), labels=range(11), average=None
    )
    assert [c["iou"] for c in record["classes"]] == pytest.approx(expected)
    assert record["images"] == 3
    assert sum(c["pixels"] for c in record["classes"]) == sum(map(len, truth))
    with (tmp_path / "test" / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["image"], row["class"]): float(row["iou"]) for row in rows}
    names = [c["name"] for c in record["classes"]]
    for path, one, other in zip(sorted(images.iterdir()), truth, guess, strict=True):
        present = np.union1d(one, other)
        expected = jaccard_score(one, other, labels=present, average=None)
        assert [found.pop((path.stem, names[c])) for c in present] == pytest.approx(expected)
    assert not found


@pytest.mark.slow
def test_groups_by_name_are_in_the_files_and_a_name_without_one_is_told_first(
    camvid_run, tmp_path, capsys
):
    given = ["--ckpt_path", checkpoint_of(camvid_run), "--output", tmp_path / "out"]
    assert seg("validate", *given, "--data.group=video") == 2
    assert "data.group 'video' is not found in '00'; widen it." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert seg("validate", *given, "--data.group=[0-3]$") == 2  # 04 has none
    assert seg("validate", *given, "--data.group=^(.)") == 0
    record = per_class(tmp_path / "out")
    assert (record["images"], record["groups"]) == (5, 1)
    assert {row["groups"] for row in record["classes"]} <= {0, 1}
    with (tmp_path / "out" / "per_image.csv").open(newline="") as file:
        assert {row["group"] for row in csv.DictReader(file)} == {"0"}


def test_a_checkpoint_is_loaded_in_python_as_the_network_that_was_judged(camvid_run, camvid_like):
    module = load_module(str(checkpoint_of(camvid_run)))
    assert not module.training
    assert module.class_names[-1] == "bicyclist"
    saved = torch.load(checkpoint_of(camvid_run), weights_only=True)["state_dict"]
    assert module.state_dict().keys() == saved.keys()
    assert all(torch.equal(module.state_dict()[name], saved[name]) for name in saved)
    image = torch.zeros(1, 3, 32, 48, dtype=torch.uint8)
    assert module(image).shape == (1, 11, 32, 48)


def test_flags_and_files_win_over_the_checkpoints_configuration(camvid_run, camvid_like, tmp_path):
    elsewhere = tmp_path / "data"
    write_pairs(elsewhere / "test", elsewhere / "testannot", 2, (40, 56), range(12), seed=9)
    given = ["--ckpt_path", checkpoint_of(camvid_run), "--data.root", elsewhere]
    assert seg("test", *given, "--output", tmp_path / "out") == 0
    assert per_class(tmp_path / "out")["images"] == 2


@pytest.mark.slow
def test_results_lie_in_a_folder_named_by_the_checkpoint(camvid_run, camvid_like):
    checkpoint = checkpoint_of(camvid_run)
    assert seg("test", "--ckpt_path", checkpoint) == 0
    results = camvid_run / "test" / checkpoint.stem
    assert (results / "per_class.json").exists()
    provenance = json.loads((results / "provenance.json").read_text())
    assert provenance["checkpoint"] == str(checkpoint.resolve())
    assert provenance["data"] == str(camvid_like.resolve())
    assert provenance["split"] == "test"
    assert provenance["command"].split()[:4] == ["seg", "test", "--ckpt_path", str(checkpoint)]


@pytest.mark.slow
def test_results_of_other_data_get_a_folder_of_their_own(camvid_run, tmp_path):
    checkpoint = checkpoint_of(camvid_run)
    elsewhere = tmp_path / "data"
    write_pairs(elsewhere / "test", elsewhere / "testannot", 2, (40, 56), range(12), seed=9)
    assert seg("test", "--ckpt_path", checkpoint) == 0
    results = camvid_run / "test" / checkpoint.stem
    before = (results / "per_class.json").read_bytes()
    for _ in range(2):  # the second time in the folder of the first
        assert seg("test", "--ckpt_path", checkpoint, "--data.root", elsewhere) == 0
    assert (results / "per_class.json").read_bytes() == before
    assert per_class(results.with_name(f"{checkpoint.stem}-2"))["images"] == 2
    assert not results.with_name(f"{checkpoint.stem}-3").exists()


def test_class_weights_of_the_policy_are_in_the_checkpoint(camvid_run):
    checkpoint = torch.load(checkpoint_of(camvid_run), weights_only=True)
    alpha = checkpoint["state_dict"]["loss.alpha"]
    assert alpha.shape == (11,)
    assert float(alpha.mean()) == pytest.approx(1)


@pytest.mark.slow
def test_fit_resumes_in_the_runs_own_folder_with_its_own_configuration(camvid_like, tmp_path):
    loss = CONFIGS / "loss" / "weighted_cross_entropy.yaml"
    given = ["--data.root", camvid_like, "--trainer.default_root_dir", tmp_path]
    assert seg("fit", *CAMVID, "-c", loss, *given) == 0
    last = run_of(tmp_path) / "checkpoints" / "last.ckpt"
    before = torch.load(last, weights_only=True)
    assert seg("fit", "--ckpt_path", last, "--trainer.max_epochs=2") == 0
    after = torch.load(last, weights_only=True)
    assert (before["epoch"], after["epoch"]) == (0, 1)
    assert after["global_step"] == 2 * before["global_step"]
    before_weight, after_weight = (c["state_dict"]["loss.weight"] for c in (before, after))
    assert torch.equal(before_weight, after_weight)
    rows = list(csv.DictReader((run_of(tmp_path) / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows if row["val/miou"]] == ["0", "1"]


@pytest.mark.slow
def test_another_runs_weights_start_a_fine_tuning_on_other_classes(camvid_run, tmp_path, caplog):
    root = tmp_path / "data"
    for split in ("train", "val"):
        write_pairs(root / "images" / split, root / "masks" / split, 4, (40, 56), range(3))
    given = ["--data.root", root, "--data.class_names=[a,b,c]", *SMALL]
    caplog.set_level(logging.INFO)
    source = ["--model.init_from", checkpoint_of(camvid_run)]
    small_steps = ["--model.optimizer=SGD", "--model.optimizer.lr=1e-12"]
    folder = ["--trainer.default_root_dir", tmp_path / "runs"]
    assert seg("fit", *given, *source, *small_steps, *folder) == 0
    assert "Not taken from it: segmentation_head.0.weight (11, 8, 3, 3)" in caplog.text
    trained = torch.load(run_of(tmp_path / "runs") / "checkpoints/last.ckpt", weights_only=True)
    start = torch.load(checkpoint_of(camvid_run), weights_only=True)["state_dict"]
    weights = trained["state_dict"]
    assert weights["network.segmentation_head.0.weight"].shape[0] == 3
    stem = "network.encoder.model.conv1.0.weight"
    torch.testing.assert_close(weights[stem], start[stem])


def test_a_checkpoint_of_pretrained_weights_is_judged_without_them(tmp_path, shared_data):
    weights = shared_data / "weights" / "tf_efficientnet_lite0.imagenet.safetensors"
    copy = tmp_path / "encoder.safetensors"
    copy.write_bytes(weights.read_bytes())
    network = ["-c", CONFIGS / "network" / "unet_efficientnet_lite0.yaml"]
    given = [*network, *SYNTHETIC, "--model.encoder_weights", copy]
    assert seg("fit", *given, "--trainer.default_root_dir", tmp_path / "runs") == 0
    copy.unlink()
    checkpoint = checkpoint_of(run_of(tmp_path / "runs"))
    assert seg("test", "--ckpt_path", checkpoint, "--data.num_workers=0") == 0
    mean = torch.load(checkpoint, weights_only=True)["state_dict"]["image_mean"]
    assert mean.flatten().tolist() == [127.5] * 3


@pytest.mark.slow
def test_without_a_file_fit_trains_the_synthetic_set(tmp_path):
    assert seg("fit", *SYNTHETIC, "--trainer.default_root_dir", tmp_path) == 0
    record = per_class(run_of(tmp_path))
    assert run_of(tmp_path).parent.name == "quickstart"
    assert "crack" in [c["name"] for c in record["classes"]]


def test_a_label_outside_the_map_is_refused_before_the_first_step_with_file_and_value(
    camvid_like, tmp_path, capsys
):
    root = tmp_path / "data"
    for split in ("train", "val"):
        values = range(4)
        write_pairs(root / split, root / f"{split}annot", 4, (40, 56), values)
    bad = root / "trainannot" / "02.png"
    mask = np.asarray(Image.open(bad)).copy()
    mask[0, 0] = 77
    Image.fromarray(mask).save(bad)
    folder = ["--trainer.default_root_dir", tmp_path / "runs"]
    assert seg("fit", *CAMVID, "--data.root", root, *folder) == 2
    error = capsys.readouterr().err
    assert "02.png" in error
    assert "77" in error
    assert "data.label_map" in error
    assert not (run_of(tmp_path / "runs") / "metrics.csv").exists()


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_judging_without_a_checkpoint_is_refused(command, capsys):
    assert seg(command) == 2
    assert "give --ckpt_path FILE" in capsys.readouterr().err


def test_predicting_nothing_is_refused(camvid_run, capsys):
    assert seg("predict", "--ckpt_path", checkpoint_of(camvid_run)) == 2
    assert "--data.predict FOLDER_OR_FILES" in capsys.readouterr().err


def test_a_number_of_classes_that_contradicts_the_data_is_refused(capsys):
    assert seg("fit", *SYNTHETIC, "--model.network.classes=7") == 2
    assert "classes is 7, but the data and the loss need 5" in capsys.readouterr().err


def test_accumulation_by_the_trainer_is_refused(capsys, tmp_path):
    given = ["--trainer.accumulate_grad_batches=3", "--trainer.default_root_dir", tmp_path]
    assert seg("fit", *SYNTHETIC, *LIGHT, *given) == 2
    assert "set model.micro_batch_size" in capsys.readouterr().err


CONVOLUTION = ["--model.network=torch.nn.Conv2d", "--model.network.kernel_size=1"]


@pytest.mark.slow
def test_a_network_without_classes_is_built_as_configured(tmp_path):
    sizes = ["--model.network.in_channels=3", "--model.network.out_channels=5"]
    folder = ["--trainer.default_root_dir", tmp_path]
    assert seg("fit", *SYNTHETIC, *CONVOLUTION, *sizes, *folder) == 0
    checkpoint = torch.load(checkpoint_of(run_of(tmp_path)), weights_only=True)
    assert checkpoint["state_dict"]["network.weight"].shape == (5, 3, 1, 1)
    assert seg("test", "--ckpt_path", checkpoint_of(run_of(tmp_path))) == 0


def test_a_network_of_another_number_of_classes_is_refused_before_training(tmp_path, capsys):
    sizes = ["--model.network.in_channels=3", "--model.network.out_channels=4"]
    folder = ["--trainer.default_root_dir", tmp_path]
    assert seg("fit", *SYNTHETIC, *CONVOLUTION, *sizes, *folder) == 2
    assert "expected logits (1, 5, 32, 32)" in capsys.readouterr().err
    assert not (run_of(tmp_path) / "checkpoints").exists()


@pytest.mark.slow
def test_images_of_five_16_bit_channels_train_a_network_of_five(tmp_path):
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for i in range(4):
            image = rng.integers(0, 4096, (40, 48, 5), dtype=np.uint16)
            path = root / "images" / split / f"{i}.tif"
            tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig")
            mask = rng.integers(0, 2, (40, 48), dtype=np.uint8)
            Image.fromarray(mask).save(root / "masks" / split / f"{i}.png")
    encoder = smp.encoders.get_encoder("resnet18", weights=None)
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    data = ["--data.root", root, "--data.class_names=[soil,weed]", "--data.in_channels=5"]
    data += [
        "--data.image_range=[0,4095]",
        "--model.encoder_weights",
        tmp_path / "encoder.safetensors",
    ]
    sgd = ["--model.optimizer=SGD", "--model.optimizer.lr=1e-12"]
    folder = ["--trainer.default_root_dir", tmp_path / "runs"]
    assert seg("fit", *SMALL, *data, *sgd, *folder) == 0
    checkpoint = torch.load(checkpoint_of(run_of(tmp_path / "runs")), weights_only=True)
    stem = checkpoint["state_dict"]["network.encoder.conv1.weight"]
    expected = encoder.conv1.weight[:, [0, 1, 2, 0, 1]] * 3 / 5
    torch.testing.assert_close(stem, expected.detach())


def test_a_trial_of_one_batch_makes_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert seg("fit", *SYNTHETIC, *LIGHT, "--trainer.fast_dev_run=true") == 0
    assert not (tmp_path / "runs").exists()
    assert [*tmp_path.rglob("*.json"), *tmp_path.rglob("*.png")] == []


EARLY_STOPPING = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor"]
PLATEAU = [
    "--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau",
    "--model.lr_scheduler.monitor",
]
UNWATCHED = ["--checkpoint.monitor=null"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "error"),
    [
        (
            ["--checkpoint.monitor=val/mIoU"],
            "RunCheckpoint watches 'val/mIoU', which is never logged; use val/miou",
        ),
        (
            [*EARLY_STOPPING, "val_miou"],
            "EarlyStopping watches 'val_miou', which is never logged; use val/miou",
        ),
        (
            [*PLATEAU, "val/los"],
            "model.lr_scheduler watches 'val/los', which is never logged; use val/loss",
        ),
        (
            [*EARLY_STOPPING, "train/loss_step"],
            "EarlyStopping watches 'train/loss_step', the loss of one step, whatever step that is; "
            "use train/loss.",
        ),
        (
            ["--checkpoint.monitor=val/loss"],
            "RunCheckpoint watches 'val/loss' with mode max, which prefers the worst; set its mode "
            "to min.",
        ),
        (
            [*EARLY_STOPPING, "val/miou"],
            "EarlyStopping watches 'val/miou' with mode min, which prefers the worst; set its mode "
            "to max.",
        ),
        (
            ["--trainer.limit_val_batches=0"],
            "RunCheckpoint watches 'val/miou', which is never logged as trainer.limit_val_batches "
            "is 0; use train/loss.",
        ),
        (
            [*PLATEAU, "val/loss", *UNWATCHED, "--trainer.check_val_every_n_epoch=2"],
            "model.lr_scheduler watches 'val/loss', which is never logged as "
            "trainer.check_val_every_n_epoch 2 is more than trainer.max_epochs 1; use train/loss.",
        ),
        (
            [*PLATEAU, "val/loss", "--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=4"],
            "model.lr_scheduler watches 'val/loss' after every epoch, but "
            "trainer.check_val_every_n_epoch is 2; set that to 1, or watch train/loss.",
        ),
        (
            ["--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau"],
            "use lightning.pytorch.cli.ReduceLROnPlateau with monitor.",
        ),
    ],
)
def test_watching_what_is_never_logged_or_the_wrong_way_is_refused_before_training(
    option, error, capsys, tmp_path
):
    assert seg("fit", *SYNTHETIC, *LIGHT, *option, "--trainer.default_root_dir", tmp_path) == 2
    assert error in capsys.readouterr().err
    assert list(tmp_path.rglob("metrics.csv")) == []


@pytest.mark.slow
def test_a_run_without_validation_may_watch_its_training_loss(tmp_path):
    plateau = [*PLATEAU, "train/loss", "--checkpoint.monitor=train/loss", "--checkpoint.mode=min"]
    given = [*EARLY_STOPPING, "train/loss", *plateau, "--trainer.limit_val_batches=0"]
    assert seg("fit", *SYNTHETIC, *LIGHT, *given, "--trainer.default_root_dir", tmp_path) == 0
    best = torch.load(checkpoint_of(run_of(tmp_path)), weights_only=True)
    assert best["global_step"] == 2


def test_weights_that_fit_nothing_are_refused(tmp_path, capsys):
    save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors")
    weights = ["--model.encoder_weights", tmp_path / "other.safetensors"]
    assert seg("fit", *SYNTHETIC, *LIGHT, *weights, "--trainer.default_root_dir", tmp_path) == 2
    assert "none of its 1 tensors fits" in capsys.readouterr().err


def test_a_command_is_a_row_of_the_table_and_a_module(tmp_path, monkeypatch, capsys):
    (tmp_path / "counting.py").write_text("def main(args):\n    return len(args)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "count", Command("Count what is given.", "counting"))
    assert seg("count", "a", "b", "c") == 3
    assert seg("--help") == 0
    assert "count      Count what is given." in capsys.readouterr().out.splitlines()[-3]


def test_the_whole_help_has_every_option_group_of_this_program(capsys):
    with pytest.raises(SystemExit) as exit_:
        seg("fit", "--help-all")
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) > 800
    for option in ("--data.root", "--model.encoder_weights", "--name", "--checkpoint.monitor"):
        assert option in text


def test_help_names_every_command(capsys):
    assert seg("--help") == 0
    lines = capsys.readouterr().out.splitlines()
    for name, command in COMMANDS.items():
        assert any(line.split() == [name, *command.summary.split()] for line in lines)
    assert max(map(len, lines)) <= 80


def test_print_config_gives_a_file_that_fit_reads_back(tmp_path, capsys):
    with pytest.raises(SystemExit):
        seg("fit", *SYNTHETIC, "--print_config")
    printed = capsys.readouterr().out
    (tmp_path / "all.yaml").write_text(printed)
    with pytest.raises(SystemExit):
        seg("fit", "-c", tmp_path / "all.yaml", "--print_config")
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(printed)


@pytest.mark.slow
def test_a_run_seeded_by_true_is_resumed(tmp_path, monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    given = [*SYNTHETIC, *LIGHT, "--seed_everything=true", "--trainer.default_root_dir", tmp_path]
    assert seg("fit", *given) == 0
    run = run_of(tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["seed_everything"] == 0 and config["seed_everything"] is not False
    last = run / "checkpoints/last.ckpt"
    assert seg("fit", *given, "--ckpt_path", last, "--trainer.max_epochs=2") == 0
    assert torch.load(last, weights_only=True)["epoch"] == 1


@pytest.mark.slow
def test_a_configuration_may_be_long_json_on_the_command_line(tmp_path):
    config = {"data": {"synthetic_length": 8}, "name": "long", "model": {"num_rare": 2}}
    text = json.dumps(config) + " " * 5000  # longer than any file name
    given = [*SMALL, *LIGHT, "--data.synthetic_size=[64,64]"]
    given += ["--trainer.default_root_dir", tmp_path]
    assert seg("fit", "--config", text, *given) == 0
    assert run_of(tmp_path).parent.name == "long"


def test_a_checkpoint_of_other_classes_is_refused_with_the_remedy(camvid_run, capsys):
    given = ["--ckpt_path", checkpoint_of(camvid_run), "--data.class_names=[road, car]"]
    given += ["--data.class_colors=null", "--data.label_map={0: 0, '1-10': 1, 11: ignore}"]
    assert seg("test", *given) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("seg: error: The checkpoint has 11 classes, the data 2: checkpoint: sky")
    assert "; data: road, car; only in the checkpoint: sky, " in said
    assert "--model.init_from" in said


RENAMED = [("street" if name == "road" else name) for name in CAMVID_NAMES]
MOVED = [*CAMVID_NAMES[:-2], CAMVID_NAMES[-1], CAMVID_NAMES[-2]]


@pytest.mark.parametrize(
    "command",
    [["fit"], ["validate"], ["test"], ["predict", "--data.predict=."], ["calibrate"]],
    ids=lambda command: command[0],
)
def test_a_checkpoint_whose_classes_have_other_ids_is_refused(camvid_run, capsys, command):
    given = ["--ckpt_path", checkpoint_of(camvid_run), f"--data.class_names={json.dumps(MOVED)}"]
    assert seg(*command, *given) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{MOVED[-1]} (id 9 in the checkpoint, 10 in the data)" in said


def test_a_checkpoint_whose_classes_have_other_names_is_warned_of(camvid_run, tmp_path, caplog):
    given = ["--ckpt_path", checkpoint_of(camvid_run), "--output", tmp_path / "test"]
    assert seg("test", *given, f"--data.class_names={json.dumps(RENAMED)}") == 0
    names = f"checkpoint: {', '.join(CAMVID_NAMES)}; data: {', '.join(RENAMED)}."
    assert sum(names in record.getMessage() for record in caplog.records) == 1


def test_a_head_trained_for_classes_of_other_names_is_warned_of(camvid_run, caplog):
    network = smp.Unet("resnet18", encoder_weights=None, classes=11)
    load_network_weights(network, checkpoint_of(camvid_run), RENAMED)
    assert any(f"data: {', '.join(RENAMED)}." in said for said in caplog.messages)
    caplog.clear()
    load_network_weights(network, checkpoint_of(camvid_run), CAMVID_NAMES)
    assert not any("other names" in said for said in caplog.messages)

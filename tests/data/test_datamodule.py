"""The data module finds, checks and loads the splits of a stage, and refuses what cannot apply."""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from seg.data import DataError, SegmentationDataModule, resolve_class_names
from seg.data.loading import default_workers
from seg.data.synthetic import CLASS_NAMES

CONFIGS = Path(__file__).parents[2] / "configs" / "data"
NAMES = ["ground", "object"]


def write_split(root: Path, split: str, sizes: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(len(split))
    for part in ("images", "masks"):
        (root / part / split).mkdir(parents=True, exist_ok=True)
    for i, size in enumerate(sizes):
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(image).save(root / f"images/{split}/{i:02d}.png")
        mask = rng.integers(0, 2, size, np.uint8)
        Image.fromarray(mask).save(root / f"masks/{split}/{i:02d}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "train", [(40, 50)] * 13)
    write_split(folder, "val", [(40, 50), (30, 50), (40, 50), (30, 50), (40, 50)])
    return folder


def module(root: Path | None = None, **options: Any) -> SegmentationDataModule:
    if root is not None:
        options = {"root": str(root), "class_names": NAMES} | options
    settings = {"batch_size": 4, "crop_size": [32, 32], "num_workers": 0} | options
    return SegmentationDataModule(**settings)


def on_rank(data: SegmentationDataModule, rank: int, world_size: int) -> None:
    """Stand in for a trainer of several processes, which cannot be had within one."""
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        strategy=SimpleNamespace(
            distributed_sampler_kwargs={"rank": rank, "num_replicas": world_size}
        ),
        num_devices=world_size,
    )


def loaded(data: SegmentationDataModule, split: str) -> list[dict[str, Any]]:
    return list(getattr(data, f"{split}_dataloader")())


def test_the_defaults_train_without_any_file() -> None:
    data = SegmentationDataModule(num_workers=0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 3, 128, 128)
    assert batch["mask"].shape == (8, 128, 128)
    assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
    assert (data.num_classes, data.class_names) == (5, list(CLASS_NAMES))
    assert len(data.class_colors or []) == 5
    assert len(data.train_dataloader()) == 16
    assert sum(len(b["image"]) for b in data.val_dataloader()) == 32


def test_every_default_survives_a_trip_through_json() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(SegmentationDataModule).parameters.items()
    }
    assert json.loads(json.dumps(defaults)) == defaults


def test_every_argument_has_help() -> None:
    doc = inspect.getdoc(SegmentationDataModule) or ""
    for name in inspect.signature(SegmentationDataModule).parameters:
        assert f"\n    {name}: " in doc


def test_a_stage_checks_only_its_own_splits(root: Path) -> None:
    data = module(root)
    data.setup("fit")
    with pytest.raises(
        DataError, match=r"split 'test': no such folders .*images/test and .*masks/test"
    ):
        data.setup("test")


def test_all_images_are_trained_on_whole_batches_and_evaluated_whole(root: Path) -> None:
    data = module(root)
    data.setup("fit")
    train, val = loaded(data, "train"), loaded(data, "val")
    assert [batch["image"].shape for batch in train] == [(4, 3, 32, 32)] * 3
    assert sorted(name for batch in val for name in batch["name"]) == [f"{i:02d}" for i in range(5)]
    assert {batch["image"].shape[2:] for batch in val} == {(40, 50), (30, 50)}
    assert all(batch["mask"].shape[1:] == batch["image"].shape[2:] for batch in val)


def test_images_resized_alike_are_batched_by_their_own_size(root: Path) -> None:
    data = module(root, resize=[20, 20])
    data.setup("validate")
    val = loaded(data, "val")
    assert {batch["image"].shape[2:] for batch in val} == {(20, 20)}
    assert {batch["mask"].shape[1:] for batch in val} == {(40, 50), (30, 50)}


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_union_over_ranks_is_the_batch_of_one_process(root: Path, world_size: int) -> None:
    alone = module(root)
    alone.setup("fit")
    ranks = []
    for rank in range(world_size):
        data = module(root)
        on_rank(data, rank, world_size)
        data.setup("fit")
        ranks.append(loaded(data, "train"))
    for i, batch in enumerate(loaded(alone, "train")):
        parts = [r[i] for r in ranks]
        shared = {
            name: image
            for part in parts
            for name, image in zip(part["name"], part["image"], strict=True)
        }
        assert shared.keys() == set(batch["name"])
        for name, image in zip(batch["name"], batch["image"], strict=True):
            assert torch.equal(shared[name], image)


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_evaluation_shards_hold_every_image_once_and_may_be_empty(
    root: Path, world_size: int
) -> None:
    names = []
    for rank in range(world_size):
        data = module(root)
        on_rank(data, rank, world_size)
        data.setup("validate")
        names += [name for batch in loaded(data, "val") for name in batch["name"]]
        assert data.allow_zero_length_dataloader_with_multiple_devices
    assert sorted(names) == [f"{i:02d}" for i in range(5)]


def test_a_batch_that_does_not_divide_over_the_ranks_is_refused(root: Path) -> None:
    data = module(root, batch_size=6)
    on_rank(data, 0, 4)
    data.setup("fit")
    with pytest.raises(ValueError, match=r"data.batch_size 6 .* 4 ranks; set it to 4 or 8"):
        data.train_dataloader()


def test_fewer_training_images_than_a_batch_are_refused(root: Path) -> None:
    data = module(root, batch_size=14)
    data.setup("fit")
    with pytest.raises(ValueError, match=r"train split has 13 images, fewer than data.batch_size"):
        data.train_dataloader()


def test_several_crops_an_image_lengthen_the_epoch_of_training_alone(root: Path) -> None:
    data = module(root, crops_per_image=3)
    data.setup("fit")
    train = [name for batch in loaded(data, "train") for name in batch["name"]]
    assert len(train) == 13 * 3 // 4 * 4
    assert len([name for batch in loaded(data, "val") for name in batch["name"]]) == 5
    with pytest.raises(ValueError, match=r"data.crops_per_image 0 must be at least 1"):
        module(root, crops_per_image=0)


def test_predict_loads_images_with_their_names_and_sizes(root: Path) -> None:
    data = module(predict=str(root / "images/val"))
    data.setup("predict")
    batches = loaded(data, "predict")
    assert sorted(name for b in batches for name in b["name"]) == [f"{i:02d}" for i in range(5)]
    assert all((b["size"] == torch.tensor(b["image"].shape[2:])).all() for b in batches)
    assert all("mask" not in b for b in batches)


def test_predicting_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"set data\.predict"):
        module().setup("predict")


def test_class_counts_scan_the_masks_once(root: Path) -> None:
    data = module(root)
    counts = data.class_counts()
    masks = [np.array(Image.open(path)) for path in sorted((root / "masks/train").iterdir())]
    expected = np.bincount(np.concatenate(masks).ravel(), minlength=2)
    np.testing.assert_array_equal(counts.pixels, expected)
    assert data.scan("train") is data.scan("train")


def test_class_counts_of_the_synthetic_set_find_every_class() -> None:
    counts = module(synthetic_length=32).class_counts()
    assert (counts.pixels > 0).all()
    assert (counts.images <= 32).all()


def test_fractions_divide_a_folder_for_all_stages(root: Path, tmp_path: Path) -> None:
    write_split(tmp_path, "", [(40, 50)] * 20)
    options = {
        "images": "images",
        "masks": "masks",
        "split_fractions": {"train": 0.5, "val": 0.25, "test": 0.25},
    }
    data = module(tmp_path, **options)
    data.setup("fit")
    data.setup("test")
    seen = [
        {name for batch in loaded(data, split) for name in batch["name"]}
        for split in ("val", "test")
    ]
    assert [len(s) for s in seen] == [5, 5]
    assert not seen[0] & seen[1]


def test_class_names_are_known_before_any_file_is_opened() -> None:
    assert resolve_class_names(None, None) == list(CLASS_NAMES)
    assert resolve_class_names("missing", ["a", "b"]) == ["a", "b"]
    assert module(Path("missing")).num_classes == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "x"}, "data.root needs data.class_names"),
        ({"root": "x", "class_names": ["a", "a"]}, r"data.class_names has \['a'\] more than once"),
        ({"root": "x", "class_names": ["a", " a"]}, r"data.class_names has \['a'\] more than once"),
        ({"root": "x", "class_names": ["a", ""]}, r"data.class_names: class 1 has no name"),
        ({"root": "x", "class_names": [" ", "b"]}, r"data.class_names: class 0 has no name"),
        ({"root": "x", "class_names": ["a\nb", "b"]}, r"'a\\nb' has a line break"),
        ({"root": "x", "class_names": ["a", "b\u2028c"]}, r"'b\\u2028c' has a line break"),
        ({"root": "x", "class_names": ["a", "b\x07"]}, r"'b\\x07' has a line break"),
        ({"class_names": NAMES}, "without data.root: the synthetic set has"),
        (
            {"label_map": {0: 1}, "masks": "m"},
            r"data.masks, data.label_map has no effect here; set",
        ),
        ({"in_channels": 1}, "data.in_channels has no effect here; set data.root"),
        (
            {"root": "x", "class_names": NAMES, "synthetic_length": 3},
            "data.synthetic_length has no effect here; leave out data.root",
        ),
        ({"batch_size": 0}, "data.batch_size 0 must be at least 1"),
        ({"num_workers": -1}, "data.num_workers -1"),
        ({"root": "x", "class_names": NAMES, "image_range": [1, 1]}, r"data.image_range \[1, 1\]"),
        ({"transforms": [{"Flip": {}}]}, "'Flip' is no transform"),
    ],
)
def test_options_that_do_not_apply_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationDataModule(**options)


def test_workers_by_default_leave_a_core_to_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert [default_workers(devices) for devices in (1, 2, 4, 16)] == [8, 7, 3, 0]


class Recorder(L.LightningModule):
    """Notes the images that each step sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps: list[tuple[list[str], int]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.steps.append((batch["name"], int(batch["image"].long().sum())))
        return self.weight

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validated = batch["name"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder: Path, resume: Path | None = None) -> list[Any]:
    saver = L.pytorch.callbacks.ModelCheckpoint(
        folder, filename="{step}", every_n_train_steps=1, save_top_k=-1
    )
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        callbacks=[saver],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    recorder = Recorder()
    workers = 1 if resume else 0  # the stream depends on neither
    data = SegmentationDataModule(
        synthetic_length=13, synthetic_size=[64, 64], crop_size=[64, 64], batch_size=4,
        num_workers=workers,
    )  # fmt: skip
    trainer.fit(recorder, datamodule=data, ckpt_path=resume, weights_only=True)
    return recorder.steps


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # as the test wants it
@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # each run has its own
def test_a_resumed_run_sees_what_the_uninterrupted_run_saw(tmp_path: Path) -> None:
    whole = fit(tmp_path)
    assert len(whole) == len({total for _, total in whole}) == 9
    for step in (2, 3, 4, 6):  # within an epoch, at the end of one
        resumed = fit(tmp_path / f"{step}", tmp_path / f"step={step}.ckpt")
        assert resumed == whole[step:]


@pytest.mark.parametrize("name", ["camvid", "folder", "binary"])
def test_file_configs_build_a_data_module(name: str) -> None:
    settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["data"]
    data = SegmentationDataModule(root="missing", **settings)
    assert data.num_classes == len(settings["class_names"])


def test_the_quickstart_config_states_the_defaults() -> None:
    settings = yaml.safe_load((CONFIGS / "quickstart.yaml").read_text())["data"]
    parameters = inspect.signature(SegmentationDataModule).parameters
    assert settings == {name: parameters[name].default for name in settings}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_configs_are_short_and_begin_with_their_command(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith(f"# seg fit -c data/{path.stem}")
    assert len(lines) <= 30
    assert yaml.safe_load(path.read_text()).keys() == {"data"}


def test_camvid_is_read_as_described(shared_data: Path) -> None:
    folder = shared_data / "CamVid"
    if not folder.is_dir():
        pytest.skip(f"no CamVid in {shared_data}")
    settings = yaml.safe_load((CONFIGS / "camvid.yaml").read_text())["data"]
    data = SegmentationDataModule(root=str(folder), num_workers=0, **settings)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 3, 192, 256)
    assert len(data.train_dataloader()) == 367 // 8
    val = next(iter(data.val_dataloader()))
    assert val["image"].shape == (8, 3, 240, 320)
    assert val["mask"].shape == (8, 360, 480)
    counts = data.class_counts()
    # shares of all pixels, void included, as published with the data
    shares = counts.pixels / (367 * 360 * 480)
    expected = [16.8, 23.3, 0.98, 31.7, 4.49, 9.72, 1.17, 1.13, 5.87, 0.64, 0.29]
    np.testing.assert_allclose(100 * shares, expected, rtol=0.01)
    assert counts.images[10] == 201

import copy
from functools import partial
from types import SimpleNamespace

import lightning as L
import pytest
import segmentation_models_pytorch as smp
import torch
from sklearn.metrics import jaccard_score
from torch import nn
from torch.utils.data import DataLoader

from seg.distributed.sharding import ShardedStrategy
from seg.errors import InputError
from seg.losses import (
    BinaryCrossEntropyLoss,
    BinaryFocalLoss,
    CompoundLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    SegmentationLoss,
    cross_entropy,
    dice_loss,
)
from seg.module import SegmentationModule
from seg.training.preflight import check_sharding
from tests.python_fits import NAMES, convolution, trainer

pytestmark = pytest.mark.slow


def unet(classes=3, **settings):
    torch.manual_seed(0)
    light = {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    return smp.Unet("tu-lcnet_035", **light, classes=classes, **settings)


def samples(count=4, size=32, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for i in range(count):
        image = torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
        mask = torch.randint(0, classes, (size, size), generator=generator, dtype=torch.uint8)
        mask[: i + 1] = 255
        yield {"image": image, "mask": mask, "name": str(i)}


class Data(L.LightningDataModule):
    def __init__(self, **settings):
        super().__init__()
        self.samples = list(samples(**settings))

    def train_dataloader(self):
        return DataLoader(self.samples, batch_size=2)

    val_dataloader = test_dataloader = train_dataloader

    def class_counts(self):
        masks = torch.stack([s["mask"] for s in self.samples])
        pixels = torch.bincount(masks[masks != 255].long(), minlength=3)
        return SimpleNamespace(pixels=pixels, image_pixels=pixels.sum().expand(3))


def test_images_are_normalised_on_the_way_in_and_kept_channels_last():
    module = SegmentationModule(unet(), CrossEntropyLoss(), NAMES)
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    found = module.normalise(images)
    torch.testing.assert_close(found, (images / 255 - mean) / std)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_training_step_is_the_loss_of_the_networks_logits():
    module = SegmentationModule(unet(), CrossEntropyLoss(), NAMES).train()
    module.log = lambda *args, **settings: None
    batch = next(iter(DataLoader(list(samples()), batch_size=4)))
    torch.manual_seed(1)
    found = module.training_step(batch, 0)
    images = module.normalise(batch["image"])
    expected = nn.functional.cross_entropy(
        module.network(images), batch["mask"].long(), ignore_index=255
    )
    torch.testing.assert_close(found, expected)


def test_validation_scores_are_scikit_learns_over_all_valid_pixels(tmp_path):
    data = Data(count=5)
    module = SegmentationModule(unet(), CrossEntropyLoss(), NAMES)
    (found,) = trainer(tmp_path).validate(module, data, verbose=False)
    module.eval()
    truth, guess, losses, valid = [], [], 0.0, 0
    with torch.no_grad():
        for sample in data.samples:
            logits = module(sample["image"][None])
            keep = sample["mask"] != 255
            truth.append(sample["mask"][keep])
            guess.append(logits.argmax(1)[0][keep])
            target = sample["mask"][None].long()
            losses += nn.functional.cross_entropy(
                logits.double(), target, ignore_index=255, reduction="sum"
            )
            valid += keep.sum()
    expected = jaccard_score(torch.cat(truth), torch.cat(guess), average=None)
    assert [found[f"val/iou/{name}"] for name in NAMES] == pytest.approx(expected, rel=1e-6)
    assert found["val/miou"] == pytest.approx(expected.mean(), rel=1e-6)
    assert found["val/loss"] == pytest.approx(float(losses / valid), rel=1e-5)
    assert module.scores.images == 5


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_parts_of_a_sum_of_losses_are_logged_by_name_over_the_whole_split(tmp_path, batch_size):
    data = Data(count=5)
    data.val_dataloader = lambda: DataLoader(data.samples, batch_size=batch_size)
    loss = CompoundLoss({"focal": FocalLoss(), "dice": DiceLoss()}, {"dice": 2.0})
    module = SegmentationModule(unet(), loss, NAMES)
    (found,) = trainer(tmp_path).validate(module, data, verbose=False)
    everything = next(iter(DataLoader(data.samples, batch_size=5)))
    with torch.no_grad():
        logits = module.eval()(everything["image"]).double()
    focal = FocalLoss()(logits, everything["mask"]).item()
    dice = dice_loss(logits, everything["mask"]).item()  # of the split, not a mean over batches
    assert found["val/loss/focal"] == pytest.approx(focal, rel=1e-5)
    assert found["val/loss/dice"] == pytest.approx(dice, rel=1e-5)
    assert found["val/loss"] == pytest.approx(focal + 2 * dice, rel=1e-5)
    assert {"val/loss/focal", "val/loss/dice"} <= set(module.validation_metrics)


def test_training_logs_the_parts_of_a_sum_of_losses_by_name(tmp_path):
    parts = {
        "ce": BinaryCrossEntropyLoss(pos_weight=3.0),
        "focal": BinaryFocalLoss(),
    }
    module = SegmentationModule(unet(classes=1), CompoundLoss(parts), ["background", "crack"])
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, Data(classes=2))
    metrics = run.callback_metrics
    total = metrics["train/loss/ce"] + metrics["train/loss/focal"]
    assert metrics["train/loss/focal"] > 0
    assert {name for name in metrics if name.startswith("train/")} == {*module.training_metrics}
    assert metrics["train/loss"] == pytest.approx(total.item(), rel=1e-6)


def test_predictions_are_brought_to_each_images_own_size():
    module = SegmentationModule(unet(), CrossEntropyLoss(), NAMES).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    sizes = torch.tensor([[48, 64], [32, 32]])
    with torch.no_grad():
        first, second = module.predict_step({"image": images, "size": sizes}, 0)
        logits = module(images)
    large = nn.functional.interpolate(logits[:1], size=(48, 64), mode="bilinear")
    assert torch.equal(first, large.argmax(1)[0].byte())
    assert torch.equal(second, logits[1].argmax(0).byte())


def test_weights_by_policy_come_from_the_data_and_travel_in_the_state_dict(tmp_path):
    module = SegmentationModule(unet(), FocalLoss(alpha="inverse_frequency"), NAMES)
    data = Data()
    trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(module, data)
    pixels = data.class_counts().pixels.double()
    expected = (1 / pixels) / (1 / pixels).mean()
    alpha = module.state_dict()["loss.alpha"].double()
    torch.testing.assert_close(alpha, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("network", "found"),
    [(nn.Conv2d(3, 2, 1), r"\(1, 2, 64, 64\)"), (nn.Conv2d(3, 3, 3), r"\(1, 3, 62, 62\)")],
    ids=["classes", "size"],
)
def test_a_network_whose_output_does_not_fit_is_refused_before_training(tmp_path, network, found):
    module = SegmentationModule(network, CrossEntropyLoss(), NAMES)
    with pytest.raises(InputError, match=rf"Conv2d .*{found}; expected logits \(1, 3, 64, 64\)"):
        trainer(tmp_path, max_steps=1).fit(module, Data())


def test_a_plain_convolution_trains(tmp_path):
    module = convolution()
    before = module.network.weight.clone()
    trainer(tmp_path, max_steps=2).fit(module, Data())
    assert not torch.equal(module.network.weight, before)


def test_a_network_of_one_logit_trains_with_a_binary_loss(tmp_path):
    names = ["background", "crack"]
    module = SegmentationModule(unet(classes=1), BinaryCrossEntropyLoss(), names)
    data = Data(classes=2)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, data)
    assert set(module.scores.pixels.tolist()) <= set(data.class_counts().pixels.tolist())
    assert 0 <= run.callback_metrics["val/iou/crack"] <= 1


def test_a_frozen_encoder_keeps_weights_and_statistics_until_it_thaws(tmp_path):
    module = SegmentationModule(unet(), CrossEntropyLoss(), NAMES, freeze_encoder_epochs=1)
    start = copy.deepcopy(module.encoder.state_dict())
    head = module.network.segmentation_head[0].weight.clone()
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, Data())
    for name, tensor in module.encoder.state_dict().items():
        assert torch.equal(tensor, start[name]), name
    assert not torch.equal(module.network.segmentation_head[0].weight, head)
    trainer(tmp_path, max_epochs=2).fit(
        second := SegmentationModule(unet(), CrossEntropyLoss(), NAMES, freeze_encoder_epochs=1),
        Data(),
    )
    assert not torch.equal(second.encoder.model.conv_stem.weight, start["model.conv_stem.weight"])
    assert not torch.equal(second.encoder.model.bn1.running_mean, start["model.bn1.running_mean"])


def test_the_encoder_learns_at_its_own_rate(tmp_path):
    module = SegmentationModule(unet(), CrossEntropyLoss(), NAMES, encoder_lr_factor=0.1)
    run = trainer(tmp_path, max_steps=1)
    run.fit(module, Data())
    rest, encoder = run.optimizers[0].param_groups
    assert encoder["lr"] == pytest.approx(0.1 * rest["lr"])
    assert len(encoder["params"]) == len(list(module.encoder.parameters()))


class Scaled(SegmentationLoss):
    """Cross-entropy of logits whose scale is learnt."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(3))

    def element_losses(self, logits, target):
        scaled = logits * self.scale.exp().view(-1, 1, 1)
        return cross_entropy(scaled, target, reduction="none"), target != self.ignore_index


def learner(**settings):
    return SegmentationModule(unet(), Scaled(), NAMES, encoder_lr_factor=0.1, **settings)


def test_what_a_loss_learns_is_trained_at_the_heads_rate_without_weight_decay(tmp_path):
    run, module = trainer(tmp_path, max_steps=2), learner()
    run.fit(module, Data())
    rest, encoder, of_loss = run.optimizers[0].param_groups
    assert of_loss["params"] == [module.loss.scale]
    assert of_loss["lr"] == pytest.approx(rest["lr"]) == pytest.approx(10 * encoder["lr"])
    assert of_loss["weight_decay"] == 0 and rest["weight_decay"] > 0
    assert (module.loss.scale != 0).all()
    grouped = [p for group in run.optimizers[0].param_groups for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, module.parameters()))


@pytest.mark.slow
def test_what_a_loss_learns_is_stored_and_goes_on_from_there(tmp_path):
    path = tmp_path / "half.ckpt"
    whole, half, resumed = learner(), learner(), learner()
    for module, steps in ((whole, 4), (half, 2)):
        scheduler = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)
        module.lr_scheduler = resumed.lr_scheduler = scheduler
        run = trainer(tmp_path, max_steps=steps)
        run.fit(module, Data())
    run.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)
    assert torch.equal(saved["state_dict"]["loss.scale"], half.loss.scale)
    trainer(tmp_path, max_steps=4).fit(resumed, Data(), ckpt_path=path, weights_only=True)
    assert not torch.equal(half.loss.scale, whole.loss.scale)
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_sum_of_losses_that_learns_its_factors_is_refused():
    loss = CompoundLoss({"scaled": Scaled(), "dice": DiceLoss()})
    SegmentationModule(unet(), loss, NAMES)
    loss.factor = nn.Parameter(torch.ones(()))
    with pytest.raises(InputError, match=r"CompoundLoss: nothing would train factor, .* of a part"):
        SegmentationModule(unet(), loss, NAMES)


def test_a_loss_that_learns_is_refused_where_only_the_network_is_averaged():
    run = SimpleNamespace(strategy=ShardedStrategy())
    check_sharding(run, CrossEntropyLoss([1.0, 2.0]))
    with pytest.raises(InputError, match=r"^Scaled has parameters of its own \(scale\), .*ddp\.$"):
        check_sharding(run, Scaled())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": [0.5]}, "model.mean: 1 values for 3 channels"),
        ({"loss": CrossEntropyLoss(reduction="none")}, "reduction is none"),
        ({"micro_batch_size": 0}, "model.micro_batch_size=0: expected 1 image or more"),
        ({"num_rare": 9}, f"model.num_rare=9: expected 1 to {len(NAMES)}"),
        ({"network": nn.Conv2d(3, 3, 1), "encoder_lr_factor": 0.1}, "Conv2d has no encoder"),
        ({"network": nn.Conv2d(3, 3, 1), "freeze_encoder_epochs": 2}, "Conv2d has no encoder"),
    ],
)
def test_settings_that_do_not_apply_are_refused(settings, message):
    given = {"network": unet(), "loss": CrossEntropyLoss(), "class_names": NAMES} | settings
    with pytest.raises(InputError, match=message):
        SegmentationModule(**given)


@pytest.mark.parametrize(
    "settings",
    [
        {"accumulate_grad_batches": 3},
        {"callbacks": [L.pytorch.callbacks.GradientAccumulationScheduler({0: 1, 4: 2})]},
    ],
)
def test_accumulating_mean_losses_is_refused_with_the_setting_to_use_instead(settings, tmp_path):
    module = SegmentationModule(unet(), CrossEntropyLoss(), NAMES)
    with pytest.raises(InputError, match=r"set model.micro_batch_size to what fits"):
        trainer(tmp_path, max_epochs=1, **settings).fit(module, Data())


def test_the_logged_loss_of_an_epoch_is_the_mean_over_its_steps(tmp_path):
    losses = []

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            losses.append(outputs["loss"].item())

    module = SegmentationModule(unet(), CompoundLoss({"a": FocalLoss(), "b": DiceLoss()}), NAMES)
    run = trainer(tmp_path, max_epochs=1, callbacks=[Keep()])
    run.fit(module, Data(count=6))
    assert len(losses) == 3
    logged = {name: value.item() for name, value in run.callback_metrics.items()}
    assert logged["train/loss"] == pytest.approx(sum(losses) / 3)
    assert logged["train/loss"] == pytest.approx(logged["train/loss/a"] + logged["train/loss/b"])
    assert logged["train/loss_step"] == pytest.approx(losses[-1])


def test_class_weights_of_another_length_are_refused():
    with pytest.raises(ValueError, match="weight"):
        SegmentationModule(unet(), CrossEntropyLoss(weight=[1.0, 2.0]), NAMES)


@pytest.mark.parametrize("compiled", ["written", "read", "both"])
def test_a_checkpoint_of_a_compiled_network_is_that_of_the_network(compiled, tmp_path):
    def network(is_compiled):
        plain = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        return torch.compile(plain, backend="eager") if is_compiled else plain

    module = SegmentationModule(network(compiled != "read"), CrossEntropyLoss(), NAMES)
    runner = trainer(tmp_path, max_steps=2, limit_val_batches=0)
    runner.fit(module, Data())
    runner.save_checkpoint(tmp_path / "x.ckpt")
    given = {"loss": CrossEntropyLoss(), "class_names": NAMES}
    fresh = network(compiled != "written")
    read = SegmentationModule.load_from_checkpoint(tmp_path / "x.ckpt", network=fresh, **given)
    resumed = SegmentationModule(network(compiled != "written"), **given)
    again = trainer(tmp_path, max_steps=3, limit_val_batches=0)
    again.fit(resumed, Data(), ckpt_path=tmp_path / "x.ckpt")
    assert again.global_step == 3
    for found, expected in zip(
        read.state_dict().values(), module.state_dict().values(), strict=True
    ):
        assert torch.equal(found, expected)

"""Shares of the classes in loss and gradient, and classes that are never predicted."""

import logging

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from seg.distributed.ranks import ALONE
from seg.evaluation.metrics import scores
from seg.losses import CompoundLoss, CrossEntropyLoss, DiceLoss, SegmentationLoss
from seg.module import SegmentationModule
from seg.training.class_shares import EVERY, PATIENCE, ClassShares, NeverPredicted, StepWatch

NAMES = ["ground", "plate", "crack"]


class Constant(nn.Module):
    """Logits that do not depend on the image."""

    def __init__(self, values=(0.0, 0.0, 0.0)):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, images):
        n, _, height, width = images.shape
        return self.values.view(1, -1, 1, 1).expand(n, -1, height, width)


def masks_with(counts, ignored=0):
    ids = torch.cat([torch.full((k,), c) for c, k in enumerate(counts)])
    return torch.cat([ids, torch.full((ignored,), 255)]).byte().view(1, 1, -1)


def watched(loss, logits, target):
    watch = StepWatch(loss.components(), target, logits.shape[1])
    logits = watch.of(lambda x: x)(logits.requires_grad_())
    loss(logits, target).backward()
    return watch.shares(ALONE)


def test_equal_logits_give_each_class_the_share_of_its_pixels():
    target = masks_with([60, 30, 10], ignored=20)
    loss, gradient = watched(CrossEntropyLoss(), torch.zeros(1, 3, 1, 120), target)
    assert loss.tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert gradient.tolist() == pytest.approx([0.6, 0.3, 0.1])


def test_inverse_frequency_weights_make_the_shares_equal():
    target = masks_with([60, 30, 10])
    loss = CrossEntropyLoss([1 / 60, 1 / 30, 1 / 10])
    for shares in watched(loss, torch.zeros(1, 3, 1, 100), target):
        assert shares.tolist() == pytest.approx([1 / 3] * 3)


def test_the_shares_of_a_sum_are_those_of_its_weighed_parts():
    target = masks_with([60, 30, 10])
    parts = {"ce": CrossEntropyLoss(), "dice": DiceLoss()}
    logits = torch.randn(1, 3, 1, 100, generator=torch.Generator().manual_seed(0)).double()
    loss, gradient = watched(CompoundLoss(parts, {"dice": 4.0}), logits, target)
    p = logits.detach().softmax(1)[0, :, 0]
    q = nn.functional.one_hot(target.flatten().long(), 3).T
    ce = torch.stack([-(p[c].log() * q[c]).sum() / 100 for c in range(3)])
    dice = (1 - 2 * (p * q).sum(1) / (p.sum(1) + q.sum(1))) / 3
    total = ce + 4 * dice
    assert loss.tolist() == pytest.approx((total / total.sum()).tolist(), rel=1e-6)
    assert gradient.sum().item() == pytest.approx(1)


def test_a_batch_of_which_nothing_counts_has_no_shares():
    found = watched(CrossEntropyLoss(), torch.zeros(1, 3, 1, 5), masks_with([0, 0, 0], ignored=5))
    assert found.tolist() == [[0.0] * 3] * 2


def test_a_gradient_that_overflowed_has_no_shares_and_spoils_none():
    target = masks_with([2, 2, 2])
    watch = StepWatch(CrossEntropyLoss().components(), target, 3)
    logits = watch.of(lambda x: x)(torch.zeros(1, 3, 1, 6, requires_grad=True))
    (CrossEntropyLoss()(logits, target) * float("inf")).backward()
    loss, gradient = watch.shares(ALONE)
    assert loss.tolist() == pytest.approx([1 / 3] * 3)
    assert gradient.tolist() == [0.0] * 3


def test_probabilities_as_target_have_no_shares_of_the_loss():
    target = torch.full((1, 3, 1, 4), 1 / 3)
    assert CrossEntropyLoss().class_terms(torch.zeros(1, 3, 1, 4), target).isnan().all()


class OnePerImage(SegmentationLoss):
    def element_losses(self, logits, target):
        return logits.mean((1, 2, 3)), torch.ones(len(logits))


def test_a_loss_of_ones_own_over_images_has_no_shares():
    terms = OnePerImage().class_terms(torch.zeros(2, 3, 1, 4), torch.zeros(2, 1, 4).byte())
    assert terms.isnan().all()


def test_every_tenth_step_of_an_epoch_is_watched_and_the_means_are_over_these():
    shares = ClassShares(NAMES)
    parts = CrossEntropyLoss().components()
    for index in range(2 * EVERY):
        # the first watched step shows one class, the second another
        target = masks_with([8, 0, 0] if index < EVERY else [0, 8, 0])
        logits = torch.zeros(1, 3, 1, 8, requires_grad=True)
        forward = shares.watch(index, parts, target, lambda _, logits=logits: logits)
        if index % EVERY:
            assert forward(None) is logits
            assert logits._backward_hooks is None
        CrossEntropyLoss()(forward(None), target).backward()
        shares.finish(0, ALONE)
    values = shares.values(parts)
    assert [*values] == shares.names(parts)
    assert values["train/loss_share/ground"] == values["train/loss_share/plate"] == 0.5
    assert values["train/grad_share/crack"] == 0


def test_the_means_survive_a_restart_within_an_epoch():
    shares, target = ClassShares(NAMES), masks_with([6, 1, 1])
    parts = CrossEntropyLoss().components()
    forward = shares.watch(0, parts, target, lambda x: x)
    CrossEntropyLoss()(forward(torch.zeros(1, 3, 1, 8, requires_grad=True)), target).backward()
    shares.finish(0, ALONE)
    restarted = ClassShares(NAMES)
    restarted.load(shares.state())
    assert restarted.values(parts) == shares.values(parts)


def confusion(silent):
    """Counts in which class 2 occurs and is predicted, or not."""
    return torch.tensor([[5, 0, 0], [0, 5, 0], [0, 3, 0 if silent else 2]])


def test_a_class_is_named_after_three_validations_without_a_predicted_pixel():
    never = NeverPredicted(NAMES)
    found = [never.update(scores(confusion(True))) for _ in range(2 * PATIENCE)]
    assert found == [[], [], ["crack"], [], [], ["crack"]]


def test_a_predicted_pixel_starts_the_count_again():
    never = NeverPredicted(NAMES)
    silent = [True, True, False, True, True]
    assert not any(never.update(scores(confusion(quiet))) for quiet in silent)


def test_a_class_that_is_not_in_the_masks_is_not_missed():
    counts = torch.tensor([[5, 0, 0], [0, 5, 0], [0, 0, 0]])
    never = NeverPredicted(NAMES)
    assert not any(never.update(scores(counts)) for _ in range(PATIENCE))


def test_a_fit_says_which_classes_it_never_predicts(tmp_path, caplog):
    mask = masks_with([48, 12, 4]).view(8, 8)
    samples = [{"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "mask": mask}] * 2
    module = SegmentationModule(
        Constant((9.0, 0.0, 0.0)),
        CrossEntropyLoss(),
        NAMES,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-6),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=PATIENCE,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    loader = DataLoader(samples, batch_size=2)
    with caplog.at_level(logging.WARNING, "seg.training.class_shares"):
        trainer.fit(module, loader, loader)
    (record,) = [r for r in caplog.records if r.name == "seg.training.class_shares"]
    assert "plate, crack" in record.getMessage()
    assert trainer.callback_metrics["val/recall/plate"] == 0
    assert trainer.callback_metrics["val/worst_class_iou"] == 0

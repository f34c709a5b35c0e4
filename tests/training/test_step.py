"""Micro-batches of a step against one autograd graph through all of them."""

import copy

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader

from seg.distributed.ranks import ALONE
from seg.losses import (
    CompoundLoss,
    CrossEntropyLoss,
    DiceLoss,
    LovaszLoss,
    OhemCrossEntropyLoss,
    SegmentationLoss,
)
from seg.module import SegmentationModule
from seg.training.class_shares import StepWatch
from seg.training.step import Share, step_loss

LOSSES = {
    "cross_entropy": CrossEntropyLoss([0.5, 1.0, 4.0]),
    "dice": DiceLoss(),
    "lovasz": LovaszLoss(),
    "ohem": OhemCrossEntropyLoss(),
    "both": CompoundLoss({"cross_entropy": CrossEntropyLoss(), "dice": DiceLoss()}),
}


class Squared(SegmentationLoss):
    """A loss of one's own, which says no more than what every pixel adds."""

    def element_losses(self, logits, target):
        valid = target != self.ignore_index
        wanted = F.one_hot(target.long().clamp(max=2), 3).movedim(-1, 1)
        losses = (logits - wanted).square().sum(1)
        return losses.masked_fill(~valid, 0), valid


def network():
    """Batch norm and dropout: what a second forward pass must leave alone."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.4)]
    return nn.Sequential(*layers, nn.Conv2d(8, 3, 3, padding=1))


def batch(size=8):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (size, 3, 12, 12), generator=generator).byte()
    masks = torch.randint(0, 3, (size, 12, 12), generator=generator).byte()
    for i in range(size):
        masks[i, : 2 * (i % 7)] = 255
    return images, masks


def gradients_of(model, loss, micro_batch_size, dtype=torch.float64):
    """Gradients and parts' values of a step."""
    images, masks = batch()
    step = step_loss(
        model,
        lambda x: model(x.to(dtype) / 255),
        loss.components(),
        Share(images, masks, ALONE),
        3,
        micro_batch_size,
    )
    step.loss.backward()
    return [p.grad for p in model.parameters()], step


@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_give_the_gradient_of_one_graph_and_leave_no_other_trace(name):
    loss, model = LOSSES[name], network().double()
    whole = copy.deepcopy(model)
    torch.manual_seed(3)
    found, step = gradients_of(model, loss, 3)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    images, masks = batch()
    logits = torch.cat([whole(x.double() / 255) for x in images.split(3)])
    value = loss(logits, masks)
    value.backward()
    for gradient, parameter in zip(found, whole.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(step.loss.detach(), value.detach(), rtol=1e-12, atol=0)
    assert torch.equal(state, torch.get_rng_state())
    for (key, buffer), other in zip(model.named_buffers(), whole.buffers(), strict=True):
        assert torch.equal(buffer, other), key
    assert model[1].num_batches_tracked == 3


def test_a_loss_of_ones_own_is_exact_without_saying_more():
    model = network().double().eval()
    whole = copy.deepcopy(model)
    found, _ = gradients_of(model, Squared(), 3)
    images, masks = batch()
    Squared()(whole(images.double() / 255), masks).backward()
    for gradient, parameter in zip(found, whole.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-9, atol=1e-12)


def bf16_error(loss, micro_batch_size):
    """Distance of each parameter's gradient in bf16 from that in float64, as a share of it."""
    model = network().eval()
    exact, _ = gradients_of(copy.deepcopy(model).double(), loss, None)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = gradients_of(model, loss, micro_batch_size, torch.float32)
    pairs = zip(found, exact, strict=True)
    return torch.stack([(a - b).norm() / b.norm() for a, b in pairs if b.norm() > 1e-9])


@pytest.mark.parametrize("name", ["cross_entropy", "dice"])
def test_in_bf16_micro_batches_are_as_near_to_the_exact_gradient_as_the_whole(name):
    # a cast cached by the pass without graph would leave its weights without gradient
    assert (bf16_error(LOSSES[name], 2) < 2 * bf16_error(LOSSES[name], None)).all()


def test_a_parameter_that_is_frozen_or_not_used_gets_no_gradient():
    model = network().double()
    model[0].requires_grad_(False)
    model.spare = nn.Linear(2, 2)
    images, masks = batch()
    forward = nn.Sequential(*list(model)[:5])
    share = Share(images, masks, ALONE)
    parts = CrossEntropyLoss().components()
    step_loss(model, lambda x: forward(x.double() / 255), parts, share, 3, 2).loss.backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {"0.weight", "0.bias", "spare.weight", "spare.bias"}


@pytest.mark.parametrize("name", LOSSES)
def test_a_watched_step_never_waits_for_a_gpu(name, fake_gpu):
    loss, found = copy.deepcopy(LOSSES[name]), []
    with fake_gpu(found):
        model = nn.Conv2d(3, 3, 3, padding=1, device="cuda")
        if name == "cross_entropy":
            loss.weight = torch.empty(3, device="cuda")
        images = torch.empty(4, 3, 12, 12, device="cuda")
        target = torch.empty(4, 12, 12, dtype=torch.uint8, device="cuda")
        watch = StepWatch(loss.components(), target, 3)
        share = Share(images, target, ALONE)
        step = step_loss(model, watch.of(model), loss.components(), share, 3)
        assert step.loss.is_cuda
        assert watch.shares(ALONE).is_cuda
    assert found == []


def fitted(micro_batch_size, **settings):
    """The network after a step of a real Trainer, of lr 1."""
    model = network().eval()
    model.train = lambda mode=True: model  # batch norm and dropout would differ between splits
    module = SegmentationModule(
        model,
        LOSSES["both"],
        ["a", "b", "c"],
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        micro_batch_size=micro_batch_size,
    )
    images, masks = batch()
    data = [{"image": x, "mask": y} for x, y in zip(images, masks, strict=True)]
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module, DataLoader(data, batch_size=8, num_workers=0))
    return model


def change(model):
    pairs = zip(model.parameters(), network().parameters(), strict=True)
    return torch.cat([(after - before).flatten() for after, before in pairs])


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:Total length of `DataLoader`")
class TestTrainer:
    def test_a_loss_scale_reaches_every_micro_batch_and_goes_again(self):
        exact = change(fitted(None))
        for size in (None, 2):
            scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
            plugin = MixedPrecision("16-mixed", "cpu", scaler)
            found = change(fitted(size, plugins=[plugin]))
            assert (found - exact).norm() < 2**-7 * exact.norm()  # fp16 has 11 bits
            assert scaler.get_scale() == 2.0**12

    def test_clipping_looks_at_the_whole_gradient(self):
        exact = change(fitted(None))
        limit = exact.norm().item() / 4
        for size in (None, 2):
            found = change(fitted(size, gradient_clip_val=limit))
            torch.testing.assert_close(found, exact / 4, rtol=1e-4, atol=1e-6)

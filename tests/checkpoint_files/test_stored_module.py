"""`SegmentationModule.load_from_checkpoint`: from the configuration, or from given arguments."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from seg.errors import InputError
from seg.lifecycle.checkpoint import load_module
from seg.losses import CompoundLoss, CrossEntropyLoss, DiceLoss
from seg.module import SegmentationModule
from tests.lifecycle.test_old_checkpoints import CHECKPOINT, image
from tests.python_fits import NAMES, convolution, trainer

pytestmark = pytest.mark.slow


def loader(count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator).byte()
    masks = torch.randint(0, 3, (count, 8, 8), generator=generator)
    return DataLoader([{"image": i, "mask": m} for i, m in zip(images, masks, strict=True)], 2)


def made(policy="inverse_frequency", **settings):
    parts = {"ce": CrossEntropyLoss(weight=policy), "dice": DiceLoss()}
    torch.manual_seed(0)
    return convolution(CompoundLoss(parts), **settings)


@pytest.fixture
def trained(tmp_path):
    """A module that was fitted from Python, and its checkpoint."""
    module = made(class_counts=[70, 20, 10], mean=[0.5, 0.5, 0.5])
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, loader())
    run.save_checkpoint(tmp_path / "trained.ckpt")
    return module, tmp_path / "trained.ckpt"


def test_a_checkpoint_of_the_command_line_needs_no_argument():
    module = SegmentationModule.load_from_checkpoint(CHECKPOINT)
    expected = load_module(CHECKPOINT)
    assert module.training
    torch.testing.assert_close(module.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert torch.equal(module.eval()(image()), expected(image()))


def test_given_arguments_take_the_place_of_the_stored_ones():
    network = load_module(CHECKPOINT).network
    for parameter in network.parameters():
        parameter.data.zero_()
    module = SegmentationModule.load_from_checkpoint(
        CHECKPOINT, network=network, freeze_encoder_epochs=3, map_location="cpu"
    )
    expected = load_module(CHECKPOINT)
    assert module.network is network and module.freeze_encoder_epochs == 3
    torch.testing.assert_close(module.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_a_network_that_is_given_need_not_be_trusted_in_the_checkpoint(tmp_path):
    checkpoint = torch.load(CHECKPOINT, weights_only=True)
    checkpoint["config"]["model"]["network"] = {"class_path": "elsewhere.Net"}
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="--trust elsewhere"):
        SegmentationModule.load_from_checkpoint(tmp_path / "a.ckpt")
    network = load_module(CHECKPOINT).network
    found = SegmentationModule.load_from_checkpoint(tmp_path / "a.ckpt", network=network)
    assert found.class_names == checkpoint["class_names"]


def test_a_checkpoint_of_a_fit_from_python_needs_network_and_loss(trained):
    module, path = trained
    message = r"carries no configuration, as no `seg fit` wrote it; give network=…, loss=… as in"
    with pytest.raises(InputError, match=message):
        SegmentationModule.load_from_checkpoint(path)
    other = made()
    found = SegmentationModule.load_from_checkpoint(path, network=other.network, loss=other.loss)
    torch.testing.assert_close(found.state_dict(), module.state_dict(), rtol=0, atol=0)
    assert found.class_names == NAMES
    assert not found.loss.needs_class_counts  # the weights of the policy came with the file
    assert found.image_mean.flatten().tolist() == [127.5] * 3


def test_a_calibrated_checkpoint_keeps_its_biases(tmp_path):
    checkpoint = torch.load(CHECKPOINT, weights_only=True)
    checkpoint["calibration"] = {"logit_bias": [0.0, 1.0, 2.0, 3.0, 4.0]}
    torch.save(checkpoint, tmp_path / "a.ckpt")
    module = SegmentationModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert module.logit_bias.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_weights_of_another_network_are_refused_in_one_line(trained):
    _, path = trained
    message = r"trained.ckpt: its weights are not those of this network and loss: [^\n]*$"
    with pytest.raises(InputError, match=message):
        SegmentationModule.load_from_checkpoint(
            path, network=nn.Sequential(nn.Conv2d(3, 3, 1)), loss=made().loss
        )


def test_the_call_on_a_module_is_refused_as_it_would_change_nothing():
    with pytest.raises(InputError, match=r"leaves this as it is; call SegmentationModule\.load"):
        made().load_from_checkpoint(CHECKPOINT)


def test_a_loaded_module_and_a_second_fit_log_the_means_of_their_own_steps(trained, tmp_path):
    module, path = trained
    other = made()
    loaded = SegmentationModule.load_from_checkpoint(path, network=other.network, loss=other.loss)
    for again in (module, loaded):
        again.optimizer = lambda params: torch.optim.SGD(params, lr=0.0)
        run = trainer(tmp_path, max_epochs=1)
        run.fit(again, loader(seed=1))
        with torch.no_grad():
            losses = [again.loss(again(b["image"]), b["mask"]) for b in loader(seed=1)]
        expected = torch.stack(losses).mean().item()
        assert run.callback_metrics["train/loss"].item() == pytest.approx(expected, rel=1e-6)

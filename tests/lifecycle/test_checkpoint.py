"""A checkpoint as a trained module: `seg.load`, and the folder of its run."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

import seg as library
from seg.data.synthetic import CLASS_COLORS, CLASS_NAMES
from seg.errors import InputError
from seg.lifecycle.checkpoint import run_folder
from tests.lifecycle.test_old_checkpoints import CHECKPOINT, FILES, image


@pytest.fixture
def changed(tmp_path):
    """A copy of a checkpoint in which entries are changed."""

    def change(edit):
        checkpoint = torch.load(CHECKPOINT, weights_only=True)
        edit(checkpoint)
        torch.save(checkpoint, tmp_path / "changed.ckpt")
        return tmp_path / "changed.ckpt"

    return change


def test_a_loaded_checkpoint_decides_as_its_network_did():
    module = library.load(CHECKPOINT)
    expected = torch.load(FILES / "version_0_1.logits.pt", weights_only=True)["logits"]
    assert not module.training and module.device == torch.device("cpu")
    assert module.class_names == list(CLASS_NAMES)
    assert module.class_colors == [list(color) for color in CLASS_COLORS]
    with torch.no_grad():
        logits = module(image())
    assert torch.allclose(logits[..., ::4, ::4], expected.float(), atol=2e-3)  # kept in fp16
    assert torch.equal(module.labels(image()), logits.argmax(1).byte())


@pytest.mark.slow
def test_a_calibrated_checkpoint_decides_with_its_biases(changed):
    bias = [0.0, 9.0, 0.0, 0.0, 0.0]
    path = changed(lambda checkpoint: checkpoint.update(calibration={"logit_bias": bias}))
    calibrated, plain = library.load(path), library.load(CHECKPOINT)
    assert calibrated.logit_bias.tolist() == bias
    with torch.no_grad():
        logits = plain(image())
    expected = (logits + torch.tensor(bias).view(-1, 1, 1)).argmax(1).byte()
    assert torch.equal(calibrated.labels(image()), expected)
    assert not torch.equal(expected, plain.labels(image()))


@pytest.mark.slow
def test_a_class_of_ones_own_is_loaded_when_its_package_is_trusted(changed, tmp_path, monkeypatch):
    source = "import segmentation_models_pytorch as smp\nclass Net(smp.Unet):\n    pass\n"
    (tmp_path / "elsewhere.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    def rename(checkpoint):
        checkpoint["config"]["model"]["network"]["class_path"] = "elsewhere.Net"

    path = changed(rename)
    with pytest.raises(InputError, match=r"--trust elsewhere, or trust='elsewhere' in Python\.$"):
        library.load(path)
    assert type(library.load(str(path), trust="elsewhere").network).__name__ == "Net"
    assert type(library.load(path, trust=["elsewhere"]).network).__name__ == "Net"
    with pytest.raises(InputError, match="--trust elsewhere"):
        library.load(path, trust="elsewhere_more")


@pytest.mark.slow
def test_weights_that_are_not_finite_are_refused(changed):
    path = changed(
        lambda checkpoint: next(iter(checkpoint["state_dict"].values())).fill_(torch.nan)
    )
    with pytest.raises(InputError, match="weights are not finite, such as"):
        library.load(path)


def test_a_device_that_is_not_there_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"^device cuda:99: [^\n]*; use another, such as cpu\.$"):
        library.load(CHECKPOINT, device="cuda:99")


def test_importing_the_library_imports_no_torch():
    code = "import sys, seg; assert callable(seg.load); assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_a_run_is_the_folder_above_its_checkpoints(tmp_path):
    assert run_folder(str(tmp_path / "checkpoints" / "best.ckpt")) == tmp_path
    assert run_folder(str(tmp_path / "copied.ckpt")) == tmp_path


@pytest.mark.slow
def test_a_loaded_checkpoint_needs_nothing_beside_its_file(tmp_path, monkeypatch):
    shutil.copy(CHECKPOINT, tmp_path / "alone.ckpt")
    monkeypatch.chdir(tmp_path)
    assert library.load("alone.ckpt").image_mean.shape == (3, 1, 1)

"""SegmentationModule: a network, a loss, exact metrics and an optimiser, for Lightning."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from seg.checkpoint_files.classes import check_classes
from seg.checkpoint_files.stored_module import StoredModule
from seg.distributed.ranks import ALONE, Ranks, share_buffers
from seg.distributed.sharding import shard
from seg.evaluation.metrics import Scores
from seg.inference.input_sizes import InputSizes
from seg.inference.pixel_classifier import PixelClassifier
from seg.lightning_compat.trainer import is_fitting, trainer_of
from seg.losses import SegmentationLoss
from seg.losses.arguments import ClassValues
from seg.networks import load_encoder_weights, load_network_weights, normalisation
from seg.training.divergence import Divergence
from seg.training.epoch_means import reseed
from seg.training.optim import optimizer_and_schedule
from seg.training.pixel_counts import fill_waiting, fill_weights
from seg.training.precision import warn_of_slow_bf16
from seg.training.preflight import (
    check_batch,
    check_finders,
    check_fit,
    check_settings,
)
from seg.training.schedules import PolynomialDecay
from seg.training.split_scores import SplitScores
from seg.training.step import Share, step_loss
from seg.training.telemetry import Telemetry

log = logging.getLogger(__name__)

Batch = dict[str, Any]
# the mean of equal values has other bits where the ranks are no power of two, their maximum not
_EQUAL_ON_ALL_RANKS: dict[str, Any] = {"sync_dist": True, "reduce_fx": "max"}


class SegmentationModule(PixelClassifier, StoredModule):
    """Trains and evaluates a segmentation network on batches of uint8 images and masks.

    A batch is `{"image": uint8 (N, C_in, H, W), "mask": uint8 (N, H, W)}`; images become floats,
    normalised and channels-last, on the device. Validation and test count one integer confusion
    matrix over whole images, at the masks' own size.

    Args:
        network: Any network from (N, C_in, H, W) to logits (N, C, H, W), or of a lower resolution,
            or the first of a tuple, such as segmentation_models_pytorch.Unet. The numbers of
            classes and of input channels are filled in from the data where its constructor takes
            `classes` and `in_channels`.
        loss: What is minimised, on logits with the classes at dim 1.
        class_names: The name of each class, in the order of the ids.
        class_colors: The RGB colour of each class, for pictures. Left out, they are chosen.
        in_channels: Number of channels of the images.
        optimizer: The optimiser; its parameters are given by the module.
        lr_scheduler: The schedule, stepped once per optimiser step. A `total_steps` that is left
            out is the length of the run. ReduceLROnPlateau is stepped once per epoch.
        mean: Mean of the pixel values of each channel, in [0, 1]. Left out, the encoder's.
        std: Standard deviation of the same. Left out, the encoder's.
        encoder_weights: Pretrained weights of the encoder: a local .safetensors or .pth file, or a
            name on the hub that the network's constructor knows, such as imagenet.
        init_from: Checkpoint of another run whose network's weights to start from. A head of
            another number of classes is made anew.
        freeze_encoder_epochs: First epochs, in which the encoder (batch norm too) is not trained.
        encoder_lr_factor: Learning rate of the encoder, as a multiple of the others'.
        micro_batch_size: Images that go through the network at a time on each device, where
            memory is short. The step stays the same; only batch norm sees a micro-batch. Left
            out, the device's whole share of data.batch_size.
        input_stride: What both sides of the network's input must divide by; images are padded to
            it. Left out, what a network of smp states itself.
        input_size: Height and width of the network's input; images are resized to it, and the
            logits back. Left out, images keep their size.
        num_rare: How many of the rarest classes miou_rare is the mean of; they are the rarest by
            their true pixels in the split. Left out, half of the classes.
        class_counts: Training pixels of each class, for weights that are given by the name of a
            policy. Left out, the data module is asked for them when a fit begins.

    Raises:
        InputError: If a setting does not fit the network, the loss or the classes.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: SegmentationLoss,
        class_names: list[str],
        class_colors: list[list[int]] | None = None,
        in_channels: int = 3,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=1e-3),
        lr_scheduler: LRSchedulerCallable = PolynomialDecay,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        encoder_weights: str | None = None,
        init_from: str | None = None,
        freeze_encoder_epochs: int = 0,
        encoder_lr_factor: float = 1.0,
        micro_batch_size: int | None = None,
        input_stride: int | None = None,
        input_size: list[int] | None = None,
        num_rare: int | None = None,
        class_counts: ClassValues | None = None,
    ):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.loss = loss
        self.class_names = class_names
        self.class_colors = class_colors
        self.in_channels = in_channels
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.freeze_encoder_epochs = freeze_encoder_epochs
        self.encoder_lr_factor = encoder_lr_factor
        self.micro_batch_size = micro_batch_size
        self.num_rare = max(1, len(class_names) // 2) if num_rare is None else num_rare
        self.run_config: dict[str, Any] | None = None
        """The run's whole configuration in primitives; it travels in the checkpoint."""
        self.scores: Scores | None = None
        """The newest scores of a whole validation or test split."""
        self.class_pixels: Tensor | None = None
        """Pixels of each class (C,) that policies made weights of."""
        self._frozen = False
        self._divergence = Divergence()
        self._saved_schedule: dict[str, Any] | None = None
        self._telemetry = Telemetry(class_names)
        self.input_sizes = InputSizes.of(network, input_stride, input_size)
        check_settings(self, mean, std)
        loss.bind(len(class_names))
        if class_counts is not None:
            self.class_pixels = fill_weights(loss, class_counts, class_names)
        own_mean, own_std = normalisation(network, in_channels)
        self.set_normalisation(mean or own_mean, std or own_std)
        self._split = SplitScores(self._parts, class_names, self.num_rare)
        if encoder_weights is not None:
            load_encoder_weights(network, encoder_weights)
        if init_from is not None:
            load_network_weights(network, init_from, class_names)

    @property
    def validation_metrics(self) -> list[str]:
        """Names of all that a validation logs, which callbacks may watch."""
        return [f"val/{name}" for name in self._split.names(self._parts)]

    @property
    def training_metrics(self) -> list[str]:
        """Names of all that training logs, which callbacks may watch."""
        return ["train/loss_step", *self._telemetry.names(self._parts)]

    @property
    def _parts(self) -> dict[str, tuple[float, SegmentationLoss]]:
        return self.loss.components()

    @property
    def encoder(self) -> nn.Module | None:
        """The network's encoder, where it has one."""
        encoder = getattr(self.network, "encoder", None)
        return encoder if isinstance(encoder, nn.Module) else None

    def setup(self, stage: str) -> None:
        """Check the network's output and resolve class weights that were given by policy."""
        warn_of_slow_bf16(self.trainer)
        check_finders(self.trainer, self.trainer.datamodule)  # type: ignore[attr-defined]
        if stage == "fit":
            # of this fit alone, whatever this module went through before
            self._telemetry, self._divergence = Telemetry(self.class_names), Divergence()
            check_fit(self, self.trainer)
            if self.trainer.ckpt_path is None:
                fill_waiting(self)

    def configure_model(self) -> None:
        """Divide the network among the ranks, where the strategy is one that does so."""
        if (trainer := trainer_of(self)) is not None:  # as in load_from_checkpoint
            shard(self.network, trainer.strategy)

    def on_validation_start(self) -> None:
        """Judge by the same running statistics on every rank, and by finite weights."""
        assert self.trainer.strategy.model is not None
        share_buffers(self.trainer.strategy.model, self.network)
        fill_waiting(self)
        self._divergence.check(self)

    def on_test_start(self) -> None:
        """Refuse weights that are not finite."""
        fill_waiting(self)
        self._divergence.check(self)

    on_predict_start = on_test_start

    def on_train_epoch_start(self) -> None:
        """Freeze or thaw the encoder."""
        if self.encoder is not None and self.freeze_encoder_epochs > 0:
            self._frozen = self.current_epoch < self.freeze_encoder_epochs
            self.encoder.requires_grad_(not self._frozen)
            self.train()

    def train(self, mode: bool = True) -> "SegmentationModule":
        """Set the mode; a frozen encoder stays in eval mode, so that its batch norm stands."""
        super().train(mode)
        if self._frozen and self.encoder is not None:
            self.encoder.eval()
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of the crops of all ranks, of which `batch` is this rank's share."""
        check_batch(batch)
        reseed(self.global_step, self.global_rank)
        scaler = getattr(getattr(trainer_of(self), "precision_plugin", None), "scaler", None)
        share = Share(batch["image"], batch["mask"], self._ranks)
        channels = self.loss.channels(len(self.class_names))
        forward = self._telemetry.watch(batch_idx, self._parts, share.target, self.forward)
        model = self.network, forward, self._parts
        step = step_loss(*model, share, channels, self.micro_batch_size, scaler)
        self._divergence.add_step(self, batch, step.loss)
        self._telemetry.add_step(self.current_epoch, step.values)
        self.log("train/loss_step", step.loss.detach(), prog_bar=True, batch_size=1)
        return step.loss

    @property
    def _ranks(self) -> Ranks:
        trainer = trainer_of(self)
        return ALONE if trainer is None else Ranks(trainer.world_size)

    def on_after_backward(self) -> None:
        """Take in what of the gradient fell on each class, in the steps that are watched."""
        self._telemetry.finish_step(self.current_epoch, self._ranks)

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch's steps, each of all ranks: losses, and classes' shares."""
        self._divergence.check(self)
        self.log_dict(self._telemetry.values(self._parts), **_EQUAL_ON_ALL_RANKS)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count whole images at the masks' own size; returns their labels (N, H, W), uint8."""
        check_batch(batch)
        mask = batch["mask"]
        logits = self.low_logits(batch["image"], mask.shape[-2:])
        prediction = self._split.update(self._parts, logits, self.logit_bias, batch)
        self._divergence.add_labels(batch, prediction)
        return prediction

    test_step = validation_step

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Tensor]:
        """Labels (H, W), uint8, of each image at its own size."""
        return self.labels_of_sizes(batch["image"], batch["size"])

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole validation split."""
        self._log_scores("val")
        if is_fitting(self):
            assert self.scores is not None
            self._telemetry.validated(self.scores, self.global_rank == 0)

    def on_test_epoch_end(self) -> None:
        """Log the scores of the whole test split."""
        self._log_scores("test")

    def _log_scores(self, split: str) -> None:
        self._divergence.check_labels(self)
        self.scores, values = self._split.finish(self._parts)
        for name, value in values.items():
            self.log(f"{split}/{name}", value, prog_bar=name == "miou", **_EQUAL_ON_ALL_RANKS)

    def configure_optimizers(self) -> Any:
        """One optimiser and its schedule; an encoder is the second group, the loss the last."""
        steps = self.trainer.estimated_stepping_batches
        saved, self._saved_schedule = self._saved_schedule, None
        model = self.network, self.encoder, self.loss
        made_by = self.optimizer, self.lr_scheduler
        return optimizer_and_schedule(*model, *made_by, self.encoder_lr_factor, steps, saved)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint self-contained: the configuration goes in, in primitives.

        Raises:
            NonFiniteError: If a weight is not finite, so that no checkpoint is replaced.
        """
        self._divergence.check(self)
        checkpoint["config"] = self.run_config
        checkpoint["class_names"] = self.class_names
        checkpoint.update(self._telemetry.state())

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of other classes before its tensors are loaded."""
        check_classes(checkpoint.get("class_names"), self.class_names)
        calibration = checkpoint.get("calibration")
        goes_on = is_fitting(self)
        if calibration is not None and goes_on:
            log.info("The checkpoint's calibration is left out: it is void once training goes on.")
        self.set_calibration(None if goes_on else calibration)
        if goes_on:
            self._saved_schedule = next(iter(checkpoint.get("lr_schedulers", [])), None)
            self._telemetry.load(checkpoint)

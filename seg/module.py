"""SegmentationModule: a network, a loss, exact metrics and an optimiser, for Lightning."""

import logging
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from torch import Tensor, nn

from seg.constants import IGNORE_INDEX
from seg.distributed.ranks import ALONE, Ranks, share_buffers
from seg.distributed.sharding import shard
from seg.errors import InputError
from seg.evaluation.metrics import ConfusionMatrix, Scores, TermSums, named_scores, score_names
from seg.inference import labels, predict_logits
from seg.losses import SegmentationLoss
from seg.networks import load_encoder_weights, load_network_weights, normalisation
from seg.training.class_shares import ClassShares, NeverPredicted
from seg.training.divergence import Divergence
from seg.training.epoch_means import EpochMeans, reseed
from seg.training.optim import (
    PolynomialDecay,
    build_scheduler,
    check_schedule,
    loss_group,
    parameter_groups,
    scale_group,
)
from seg.training.preflight import (
    check_freezing,
    check_output,
    check_settings,
    check_sharding,
    check_splitting,
    warn_of_slow_bf16,
)
from seg.training.step import Share, step_loss

log = logging.getLogger(__name__)

Batch = dict[str, Any]
# the mean of equal values has other bits where the ranks are no power of two, their maximum not
_EQUAL_ON_ALL_RANKS: dict[str, Any] = {"sync_dist": True, "reduce_fx": "max"}


class SegmentationModule(L.LightningModule):
    """Trains and judges a segmentation network on batches of uint8 images and masks.

    A batch is `{"image": uint8 (N, C_in, H, W), "mask": uint8 (N, H, W)}`; images become floats,
    normalised and channels-last, on the device. Validation and test count one integer confusion
    matrix over whole images, at the masks' own size.

    Args:
        network: Any network from (N, C_in, H, W) to logits (N, C, H, W), such as
            segmentation_models_pytorch.Unet. The numbers of classes and of input channels are
            filled in from the data where its constructor takes `classes` and `in_channels`.
        loss: What is minimised, on logits with the classes at dim 1.
        class_names: One name a class, in the order of their ids.
        class_colors: One RGB colour a class, for pictures. Left out, they are made up.
        in_channels: Number of channels of the images.
        optimizer: The optimiser; its parameters are given by the module.
        lr_scheduler: The schedule, stepped once per optimiser step. A `total_steps` that is left
            out is the length of the run. ReduceLROnPlateau is stepped once per epoch.
        mean: Mean of pixel values in [0, 1], one a channel. Left out, the encoder's.
        std: Standard deviation of pixel values in [0, 1], one a channel. Left out, the encoder's.
        encoder_weights: Pretrained weights of the encoder: a local .safetensors or .pth file, or a
            name on the hub that the network's constructor knows, such as imagenet.
        init_from: Checkpoint of another run whose network's weights to start from. A head of
            another number of classes is made anew.
        freeze_encoder_epochs: Epochs for which the encoder is not trained and its batch norm
            stays in eval mode.
        encoder_lr_factor: Learning rate of the encoder, as a multiple of the others'.
        micro_batch_size: Images that go through the network at a time on each device, when its
            share of data.batch_size takes too much memory; the step stays the same, but for batch
            norm, which sees a micro-batch. Left out, all of the share.
        num_rare: Over how many of the rarest classes, by the true pixels of the split judged,
            miou_rare is the mean. Left out, half of the classes.

    Raises:
        InputError: If a setting does not fit the network, the loss or the classes.
    """

    image_mean: Tensor
    image_std: Tensor
    logit_bias: Tensor | None

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
        num_rare: int | None = None,
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
        self._frozen = False
        self._divergence = Divergence()
        self._saved_schedule: dict[str, Any] | None = None
        self._means = EpochMeans()
        self._shares = ClassShares(class_names)
        self._never_predicted = NeverPredicted(class_names)
        check_settings(self, mean, std)
        loss.bind(len(class_names))
        self._register_normalisation(mean, std)
        # of the checkpoint, not of the weights: whoever trains on starts without
        self.register_buffer("logit_bias", None, persistent=False)
        self.confusion = ConfusionMatrix(len(class_names))
        logits = loss.channels(len(class_names))
        self._num_terms = [part.num_terms(logits) for _, part in self._parts.values()]
        self.loss_terms = TermSums(sum(self._num_terms))
        if encoder_weights is not None:
            load_encoder_weights(network, encoder_weights)
        if init_from is not None:
            load_network_weights(network, init_from)

    @property
    def validation_metrics(self) -> list[str]:
        """Names of all that a validation logs, which callbacks may watch."""
        of_parts = [f"val/loss/{name}" for name in self._parts if name]
        scores = (f"val/{name}" for name in score_names(self.class_names))
        return ["val/loss", *of_parts, *scores]

    @property
    def training_metrics(self) -> list[str]:
        """Names of all that training logs, which callbacks may watch."""
        of_parts = [f"train/loss/{name}" for name in self._parts if name]
        shares = self._shares.names(self._parts)
        return ["train/loss", "train/loss_step", *of_parts, *shares]

    @property
    def _parts(self) -> dict[str, tuple[float, SegmentationLoss]]:
        return self.loss.components()

    @property
    def encoder(self) -> nn.Module | None:
        """The network's encoder, where it has one."""
        encoder = getattr(self.network, "encoder", None)
        return encoder if isinstance(encoder, nn.Module) else None

    def _register_normalisation(self, mean: list[float] | None, std: list[float] | None) -> None:
        own_mean, own_std = normalisation(self.network, self.in_channels)
        for name, values in (("image_mean", mean or own_mean), ("image_std", std or own_std)):
            # in units of uint8 values, ready to broadcast over (n, c, h, w)
            self.register_buffer(name, 255 * torch.tensor(values).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C, H, W) of uint8 images (N, C_in, H, W)."""
        logits: Tensor = self.network(self.normalise(images))
        return logits

    @torch.no_grad()
    def labels(self, images: Tensor) -> Tensor:
        """Class ids (N, H, W), uint8, of uint8 images (N, C_in, H, W) of any size.

        A pixel with a logit that is NaN gets 255, which is no class.
        As `seg predict` decides, with the biases of `seg calibrate` where the checkpoint has them.
        """
        return labels(predict_logits(self.network, self.normalise(images), None), self.logit_bias)

    def set_calibration(self, calibration: Mapping[str, Any] | None) -> None:
        """Decide with the biases that a checkpoint carries as `calibration`, or without."""
        bias = None if calibration is None else torch.tensor(calibration["logit_bias"])
        self.logit_bias = None if bias is None else bias.to(self.image_mean)

    def normalise(self, images: Tensor) -> Tensor:
        """Images (N, C_in, H, W) with values in 0..255 as normalised floats, channels-last."""
        floats = images.to(dtype=self.image_mean.dtype, memory_format=torch.channels_last)
        return (floats - self.image_mean) / self.image_std

    def setup(self, stage: str) -> None:
        """Check the network's output and resolve class weights that were given by policy."""
        warn_of_slow_bf16(self.trainer)
        if stage != "fit":
            return
        pixel = self.image_mean.new_zeros(1, self.in_channels, 1, 1)
        check_output(self.network, self.loss, self.class_names, pixel)
        check_freezing(self.trainer, self.freeze_encoder_epochs)
        check_splitting(self.trainer, self.micro_batch_size)
        check_sharding(self.trainer, self.loss)
        if self.loss.needs_class_counts and self.trainer.ckpt_path is None:
            counts = self.trainer.datamodule.class_counts()  # type: ignore[attr-defined]
            self.loss.set_class_counts(counts.pixels, counts.image_pixels, self.class_names)

    def configure_model(self) -> None:
        """Divide the network among the ranks, where the strategy is one that does so."""
        shard(self.network, self.trainer.strategy)

    def on_validation_start(self) -> None:
        """Judge by the same running statistics on every rank, and by finite weights."""
        assert self.trainer.strategy.model is not None
        share_buffers(self.trainer.strategy.model, self.network)
        self._divergence.check(self)

    def on_test_start(self) -> None:
        """Refuse weights that are not finite."""
        self._divergence.check(self)

    def on_predict_start(self) -> None:
        """Refuse weights that are not finite."""
        self._divergence.check(self)

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
        reseed(self.global_step, self.global_rank)
        scaler = None
        if self._trainer is not None:
            scaler = getattr(self._trainer.precision_plugin, "scaler", None)
        share = Share(batch["image"], batch["mask"], self._ranks)
        channels = self.loss.channels(len(self.class_names))
        forward = self._shares.watch(batch_idx, self._parts, share.target, self.forward)
        model = self.network, forward, self._parts
        step = step_loss(*model, share, channels, self.micro_batch_size, scaler)
        self._divergence.add_step(self, batch, step.loss)
        self._means.add(self.current_epoch, step.values)
        self.log("train/loss_step", step.loss.detach(), prog_bar=True, batch_size=1)
        return step.loss

    @property
    def _ranks(self) -> Ranks:
        return ALONE if self._trainer is None else Ranks(self._trainer.world_size)

    def on_after_backward(self) -> None:
        """Take in what of the gradient fell on each class, in the steps that are watched."""
        self._shares.finish(self.current_epoch, self._ranks)

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch's steps, each of all ranks: losses, and classes' shares."""
        self._divergence.check(self)
        values = dict(zip(self._parts, self._means.means().unbind(), strict=True))
        logged = self._with_total("train/loss", values) | self._shares.values(self._parts)
        self.log_dict(logged, **_EQUAL_ON_ALL_RANKS)

    def _with_total(self, name: str, values: dict[str, Tensor]) -> dict[str, Any]:
        """The weighted sum of the loss's parts as `name`, and the named parts as name/part."""
        factors = [factor for factor, _ in self._parts.values()]
        weighed = [factor * v for factor, v in zip(factors, values.values(), strict=True)]
        parts = {f"{name}/{part}": value for part, value in values.items() if part}
        return {name: torch.stack(weighed).sum(), **parts}

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count whole images at the masks' own size; returns their labels (N, H, W), uint8."""
        return self._evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """As `validation_step`, on the test split."""
        return self._evaluate(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Tensor]:
        """Labels (H, W), uint8, of each image at its own size."""
        logits = predict_logits(self.network, self.normalise(batch["image"]), None)
        return [
            labels(predict_logits(nn.Identity(), one[None], tuple(size.tolist())), self.logit_bias)[
                0
            ]
            for one, size in zip(logits, batch["size"], strict=True)
        ]

    def _evaluate(self, batch: Batch) -> Tensor:
        mask = batch["mask"]
        logits = predict_logits(self.network, self.normalise(batch["image"]), mask.shape[-2:])
        terms = [part.terms(logits, mask) for _, part in self._parts.values()]
        self.loss_terms.update(torch.cat(terms))
        prediction = labels(logits, self.logit_bias)
        self._divergence.add_labels(batch, prediction)
        self.confusion.update(
            prediction, mask.masked_fill(prediction == IGNORE_INDEX, IGNORE_INDEX)
        )
        return prediction

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole validation split."""
        self._log_scores("val")
        if self._trainer is not None and self.trainer.state.fn == "fit":
            assert self.scores is not None
            self._never_predicted.warn(self.scores, self.global_rank == 0)

    def on_test_epoch_end(self) -> None:
        """Log the scores of the whole test split."""
        self._log_scores("test")

    def _log_scores(self, split: str) -> None:
        self._divergence.check_labels(self)
        terms = torch.split(self.loss_terms.compute(), self._num_terms)
        parts = zip(self._parts.items(), terms, strict=True)
        losses = {name: part.value(sums) for (name, (_, part)), sums in parts}
        self.scores = self.confusion.scores()
        for metric in (self.confusion, self.loss_terms):
            metric.reset()
        values = self._with_total("loss", losses)
        values |= named_scores(self.scores, self.class_names, self.num_rare)
        for name, value in values.items():
            self.log(f"{split}/{name}", value, prog_bar=name == "miou", **_EQUAL_ON_ALL_RANKS)

    def configure_optimizers(self) -> Any:
        """One optimiser and its schedule; an encoder is the second group, the loss the last."""
        groups = parameter_groups(self.network, self.encoder)
        optimizer = self.optimizer([*groups, *loss_group(self.loss)])
        steps = self.trainer.estimated_stepping_batches
        scheduler = build_scheduler(self.lr_scheduler, optimizer, steps)
        saved, self._saved_schedule = self._saved_schedule, None
        check_schedule(scheduler, steps, saved)
        if len(groups) == 2 and self.encoder_lr_factor != 1.0:
            scale_group(optimizer, scheduler, 1, self.encoder_lr_factor)
        schedule: dict[str, Any] = {"scheduler": scheduler, "interval": "step"}
        if isinstance(scheduler, ReduceLROnPlateau):
            schedule |= {"interval": "epoch", "monitor": scheduler.monitor}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint self-contained: the configuration goes in, in primitives.

        Raises:
            NonFiniteError: If a weight is not finite, so that no checkpoint is replaced.
        """
        self._divergence.check(self)
        checkpoint["config"] = self.run_config
        checkpoint["class_names"] = self.class_names
        checkpoint["train_losses"] = self._means.state()
        checkpoint["class_shares"] = self._shares.state()
        checkpoint["never_predicted"] = self._never_predicted.validations

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of other classes before its tensors are loaded."""
        names = checkpoint.get("class_names")
        if names is not None and len(names) != len(self.class_names):
            raise InputError(
                f"The checkpoint has {len(names)} classes {names}, the data {len(self.class_names)}"
                f" {self.class_names}; use data of the same classes, or --model.init_from to start "
                "a fine-tuning from it."
            )
        calibration = checkpoint.get("calibration")
        if calibration is not None and self.trainer.state.fn == "fit":
            log.info("The checkpoint's calibration is left out: it is void once training goes on.")
            calibration = None
        self.set_calibration(calibration)
        if self._trainer is not None and self._trainer.state.fn == "fit":
            self._saved_schedule = next(iter(checkpoint.get("lr_schedulers", [])), None)
        if "train_losses" in checkpoint:
            self._means.load(checkpoint["train_losses"])
        if "class_shares" in checkpoint:
            self._shares.load(checkpoint["class_shares"])
            self._never_predicted.validations = checkpoint["never_predicted"]

"""The callback that leaves behind what a person looks at after a run."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from seg.data import SegmentationDataModule, SegmentationDataset
from seg.data.augment.cropping import resize_image
from seg.data.groups import check_groups, group_of
from seg.data.sampling.batch_samplers import EvaluationBatchSampler
from seg.data.scan.chosen_images import images_of_rare_classes
from seg.errors import NonFiniteError
from seg.evaluation.intervals import intervals
from seg.evaluation.metrics import Scores
from seg.evaluation.records import per_class_records
from seg.files import refuse_overwriting
from seg.lifecycle.run_checkpoint import RunCheckpoint
from seg.lifecycle.stopped import Stopped
from seg.module import SegmentationModule
from seg.prediction.label_images import class_colors
from seg.report.per_image import write_per_image
from seg.report.previews import write_preview
from seg.report.provenance import Provenance, write_provenance
from seg.report.tables import print_per_class, read_per_class, write_per_class
from seg.report.terminal import print_lines
from seg.report.trackers import log_pictures, log_settings
from seg.report.weights import print_weights

_FIGURES = ("per_class.json", "per_class.csv", "per_image.csv")


class RunReport(L.Callback):
    """Writes `per_class.*`, `per_image.csv`, `previews/` and `curves.png`, and prints the table.

    During a fit the files are of the weights in `checkpoints/best.ckpt`; where no best is kept, of
    the newest validation.

    Args:
        folder: Where the files go; None is the run's own folder.
        previews: How many images to picture. They show the rare classes of the split, and are the
            same in every epoch, whatever the batch size and the number of ranks.
        checkpoint: Decides during a fit which weights are the best, by saving them.
        provenance: Of the figures of an evaluation, written beside them.
    """

    def __init__(
        self,
        folder: Path | None = None,
        previews: int = 8,
        checkpoint: RunCheckpoint | None = None,
        provenance: Provenance | None = None,
    ):
        self.provenance = provenance
        self.folder = folder
        self.previews = previews
        self.record: dict[str, Any] | None = None
        """The figures that the files hold."""
        self._checkpoint = checkpoint
        if checkpoint is not None:
            checkpoint.after_best = self._follow_best
        self._newest: Callable[[], None] | None = None
        """Writes the files of the validation that was made of the present weights."""
        self._group: str | None = None
        """As `data.group`."""
        self._chosen: dict[int, int] | None = None
        """Number of the preview of an image, by its index in the split; None before the choice."""
        self._batches: list[list[int]] = []
        """Indices of the images of this rank's batches."""
        self._shown_channels: list[int] | None = None
        self._pictured: dict[int, tuple[str, Tensor, Tensor, Tensor]] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Learn the run's folder, which the ranks agree on together.

        Raises:
            InputError: If a file to write is an image or a mask of the split that is scored, or
                `data.group` is not found in a name.
        """
        folder = self.folder or trainer.log_dir
        if folder is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.folder = Path(folder)
        self._chosen = None
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, SegmentationDataModule):
            self._group = data.group
            dataset = data.dataset("test" if stage == "test" else "val")
            if isinstance(dataset, SegmentationDataset):
                check_groups(self._group, "data.group", dataset.pairs.names)
                if self.folder is not None and stage != "fit":
                    names = (*_FIGURES, "previews/*.png")
                    written = [path for name in names for path in self.folder.glob(name)]
                    refuse_overwriting(written, dataset.pairs.images + dataset.pairs.masks)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the weights that policies gave the classes; a resumed run has them already."""
        assert isinstance(pl_module, SegmentationModule)
        if trainer.is_global_zero and trainer.enable_autolog_hparams:
            log_settings(trainer.loggers, pl_module.run_config or {})
        if trainer.ckpt_path is not None:
            self.record = None if self.folder is None else read_per_class(self.folder)
            return
        parts = pl_module.loss.components()
        if pl_module.class_pixels is not None and trainer.is_global_zero:
            print_weights(parts, pl_module.class_names, pl_module.class_pixels)

    def on_train_batch_start(self, *args: Any) -> None:
        """From here on, the newest validation is not of the present weights."""
        self._newest = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose what to picture, once; every validation pictures the same images."""
        if not trainer.sanity_checking:
            self._choose(trainer, "val", trainer.val_dataloaders, trainer.num_val_batches)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose what to picture."""
        self._choose(trainer, "test", trainer.test_dataloaders, trainer.num_test_batches)

    def _choose(self, trainer: L.Trainer, role: str, loader: Any, limits: Any) -> None:
        if self._chosen is not None:
            return
        self._chosen = {}
        data = trainer.datamodule  # type: ignore[attr-defined]
        sampler = getattr(loader, "batch_sampler", None)
        known = isinstance(data, SegmentationDataModule)
        if not (self.previews and known and isinstance(sampler, EvaluationBatchSampler)):
            return
        self._batches, chosen = sampler.batches, []
        self._shown_channels = data.shown_channels
        if trainer.is_global_zero:
            judged = [i for batches in sampler.of_ranks for b in batches[: limits[0]] for i in b]
            # what is wrong with a mask, the evaluation says
            chosen = images_of_rare_classes(data.try_scan(role)[0], judged, self.previews)
        chosen = trainer.strategy.broadcast(chosen)
        self._chosen = {index: number for number, index in enumerate(chosen)}

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the chosen images."""
        if not trainer.sanity_checking:
            self._keep(outputs, batch, batch_idx)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """As on validation."""
        self._keep(outputs, batch, batch_idx)

    def _keep(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        check_groups(self._group, "data.group", batch["name"] if self._group else ())
        if not self._chosen:
            return
        for place, index in enumerate(self._batches[batch_idx]):
            if index in self._chosen:
                parts = batch["image"], batch["mask"], outputs
                image, truth, prediction = (part[place].cpu() for part in parts)
                name = batch["name"][place]
                self._pictured[self._chosen[index]] = name, image, truth, prediction

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Have the files ready to be written; print outside a fit."""
        self._finish(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the files and print the table."""
        self._finish(trainer, pl_module)

    def _finish(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        pictured, self._pictured = self._pictured, {}
        assert isinstance(module, SegmentationModule)
        if trainer.sanity_checking or module.scores is None:
            return
        self._newest = partial(self._write, trainer.is_global_zero, module.scores, pictured, module)
        if not self._best_is_kept(trainer):
            self._newest()
        if trainer.state.fn != "fit" and trainer.is_global_zero:
            split = "test" if trainer.state.fn == "test" else "validation"
            assert self.record is not None
            print_per_class(self.record, title=f"{split} split, {module.scores.images} images")
            print_lines([f"Written to {self.folder}"])

    def _best_is_kept(self, trainer: L.Trainer) -> bool:
        fitting = trainer.state.fn == "fit" and not trainer.fast_dev_run  # type: ignore[attr-defined]
        return fitting and self._checkpoint is not None and self._checkpoint.save_top_k != 0

    def _follow_best(self, trainer: L.Trainer) -> None:
        """Let the files be of the weights that have just been saved as the best."""
        if self._newest is not None:
            self._newest()
        elif self.folder is not None and trainer.is_global_zero:  # of weights not validated
            self.record = None
            for name in _FIGURES:
                (self.folder / name).unlink(missing_ok=True)
            shutil.rmtree(self.folder / "previews", ignore_errors=True)

    def _write(
        self,
        is_first_rank: bool,
        scores: Scores,
        pictured: Mapping[int, tuple[str, Tensor, Tensor, Tensor]],
        module: SegmentationModule,
    ) -> None:
        """Every rank writes the previews of the images that it had; the first one the scores."""
        if is_first_rank:
            self._write_figures(scores, module)
        if self.folder is None:
            return
        for number, (name, image, truth, prediction) in pictured.items():
            shown = image.permute(1, 2, 0).numpy()
            # the network may have seen the image at another size than its mask's
            shown = resize_image(shown, (truth.shape[0], truth.shape[1]))
            path = self.folder / "previews" / f"{number}_{Path(name).name}.png"
            write_preview(
                path,
                shown,
                truth.numpy(),
                prediction.numpy(),
                class_colors(module),
                module.class_names,
                self._shown_channels,
            )

    def _write_figures(self, scores: Scores, module: SegmentationModule) -> None:
        if self.folder is not None and self.provenance is not None:
            write_provenance(self.folder, self.provenance)
        counts, names, num_rare = scores.by_image, module.class_names, module.num_rare
        if counts is None:
            self.record = per_class_records(scores, names, num_rare)
        else:
            groups = self._groups(counts.names)
            found = intervals(counts, scores.rare_classes(num_rare), groups)
            self.record = per_class_records(scores, names, num_rare, found)
            if self.folder is not None:
                write_per_image(self.folder, counts, groups, names)
        if self.folder is not None:
            write_per_class(self.folder, self.record)

    def _groups(self, names: Sequence[str]) -> list[str] | None:
        """Group of each image, by its name; None where each is one by itself."""
        if self._group is None:
            return None
        return [group_of(self._group, "data.group", name) for name in names]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the curves once the run is over, and give all pictures to its loggers."""
        self._draw_curves(trainer)
        if trainer.is_global_zero and self.folder is not None:
            pictures = [
                *sorted(self.folder.glob("previews/*.png")),
                *self.folder.glob("curves.png"),
            ]
            log_pictures(trainer.loggers, pictures, trainer.global_step)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Draw the curves of a run that a signal or a loss of NaN ended."""
        if trainer.state.fn == "fit" and isinstance(exception, Stopped | NonFiniteError):
            self._draw_curves(trainer)

    def _draw_curves(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero and self.folder is not None:
            metrics = self.folder / "metrics.csv"
            if metrics.exists():
                from seg.report.curves import plot_curves  # here: matplotlib delays no first step

                plot_curves(metrics, self.folder / "curves.png")

"""Private methods and attributes that subclasses take over from Lightning and torch, by name.

They stay in the subclass, where they are overridden or read. `tests/test_lightning_compat.py` holds
that none is missing here, and that each is still what it was.
"""

from typing import NamedTuple


class Inherited(NamedTuple):
    """A private name that a subclass overrides or uses."""

    owner: str
    """Dotted name of the class that has it."""

    name: str
    parameters: tuple[str, ...] | None
    """Of a method, without `self`; None for an attribute."""

    used_in: str
    """The file of the subclass, below `seg`."""

    reason: str


_CLI = "lightning.pytorch.cli.LightningCLI"
_CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"
_SIGNALS = "lightning.pytorch.trainer.connectors.signal_connector._SignalConnector"
_APP, _RUN, _STOP = "cli/lightning_cli.py", "lifecycle/run_checkpoint.py", "lifecycle/signals.py"
_SAVED = ("trainer", "monitor_candidates")
_LOADED = (
    *("state_dict", "prefix", "local_metadata", "strict"),
    *("missing_keys", "unexpected_keys", "error_msgs"),
)

INHERITED = (
    Inherited(
        *(_CLI, "_prepare_subcommand_parser", ("klass", "subcommand", "kwargs"), _APP),
        "adds options to one subcommand; the public hook is not told which it is",
    ),
    Inherited(
        *(_CLI, "_parse_ckpt_path", (), _APP),
        "would let a checkpoint's settings win over the command line",
    ),
    Inherited(
        *(_CLI, "_dump_config", (), _APP),
        "gives the configuration before anything is made of it",
    ),
    Inherited(
        *(_CLI, "_get", ("config", "key", "default"), _APP),
        "finds a part of the configuration of the running subcommand",
    ),
    Inherited(
        *(_CLI, "_parser", ("subcommand",), _APP),
        "leaves the run's checkpoint out of the callbacks of a run that saves none",
    ),
    Inherited(
        *(_CHECKPOINT, "_save_last_checkpoint", _SAVED, _RUN),
        "renews last.ckpt alone, and notes its step",
    ),
    Inherited(
        *(_CHECKPOINT, "_save_topk_checkpoint", _SAVED, _RUN),
        "saves the best at the end of the validation that measured it",
    ),
    Inherited(
        *(_CHECKPOINT, "_save_checkpoint", ("trainer", "filepath"), _RUN),
        "tells when best.ckpt was written",
    ),
    Inherited(
        *(_CHECKPOINT, "_monitor_candidates", ("trainer",), _RUN),
        "fills in the names of files",
    ),
    Inherited(
        *(_CHECKPOINT, "_should_save_on_train_epoch_end", ("trainer",), _RUN),
        "where no monitor says when to save",
    ),
    *(
        Inherited(_CHECKPOINT, name, None, _RUN, "the option as given; it has no public name")
        for name in (
            *("_every_n_epochs", "_every_n_train_steps"),
            *("_train_time_interval", "_save_on_train_epoch_end"),
        )
    ),
    Inherited(
        *(_CHECKPOINT, "_last_global_step_saved", None, _RUN),
        "saving last.ckpt must not pass for saving the best of this step",
    ),
    Inherited(
        *(_CHECKPOINT, "_last_time_checked", None, _RUN),
        "the clock of train_time_interval, which Lightning starts",
    ),
    Inherited(
        *(_SIGNALS, "_original_handlers", None, _STOP),
        "what Lightning puts back at the end of a fit",
    ),
    Inherited(
        *(_SIGNALS, "_slurm_sigusr_handler_fn", ("signum", "_"), _STOP),
        "saves and requeues under SLURM",
    ),
    Inherited(
        "lightning.pytorch.loggers.CSVLogger",
        *("_experiment", None, "lifecycle/run_folder.py"),
        "whether the file has been begun, which deletes what a resumed run has logged",
    ),
    Inherited(
        "lightning.pytorch.strategies.ModelParallelStrategy",
        *("_data_parallel_size", None, "distributed/sharding.py"),
        "all ranks; the argument is asked for before their number is known",
    ),
    Inherited(
        "torch.utils.data.DataLoader",
        *("_iterator", None, "data/loading.py"),
        "the workers of the epoch before, which are kept",
    ),
    Inherited(
        "torch.optim.lr_scheduler.LRScheduler",
        *("_last_lr", None, "training/schedules.py"),
        "what is logged as the rate; a schedule sets it itself",
    ),
    Inherited(
        *("torch.nn.Module", "_load_from_state_dict", _LOADED, "losses/waiting_weights.py"),
        "makes the buffers that a checkpoint has and a new loss has not",
    ),
    Inherited(
        "torchmetrics.Metric",
        *("_apply", ("fn", "exclude_state"), "evaluation/term_sums.py"),
        "goes to a device without float64 in float32",
    ),
)

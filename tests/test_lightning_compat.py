"""Private names of Lightning, torch and jsonargparse are as `seg` knows them."""

import ast
import importlib
import inspect
import pkgutil
import textwrap
from pathlib import Path

import lightning as L
import pytest
import torch
from jsonargparse import ArgumentParser, _core, _subcommands, _util, typing
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning_utilities.core import imports

import seg
from seg.lightning_compat import loops, torch_names, trainer
from seg.lightning_compat.inherited import INHERITED
from seg.lightning_compat.lean_imports import SOUND, TEXT, lean_torchmetrics
from seg.lightning_compat.parsers import (
    discarding,
    known_classes,
    known_options,
    option_of,
)

PACKAGE = Path(seg.__file__).parent
_LOOPS = "lightning.pytorch.loops"
_FIT, _STEPS = f"{_LOOPS}.fit_loop._FitLoop", f"{_LOOPS}.training_epoch_loop._TrainingEpochLoop"
_LOOP, _TRAINER = f"{_LOOPS}.loop._Loop", "lightning.pytorch.trainer.trainer.Trainer"
_CONNECTORS = "lightning.pytorch.trainer.connectors"
_LOGS = f"{_CONNECTORS}.logger_connector.logger_connector._LoggerConnector"
_SAVES = "lightning.pytorch.callbacks.ModelCheckpoint"
_LAUNCHERS = "lightning.pytorch.strategies.launchers"
_RESUMING, _SIGNALS = "lifecycle/resuming.py", "lifecycle/signals.py"
_RUN = "lifecycle/run_checkpoint.py"
_PARSED = "cli/lightning_cli.py"
_LOADER = "lightning.pytorch.utilities.combined_loader.CombinedLoader"
_ACCELERATOR = f"{_CONNECTORS}.accelerator_connector._AcceleratorConnector"
_PARALLEL = "lightning.pytorch.strategies.ModelParallelStrategy"
REACHED = [
    (_FIT, "_data_fetcher", None, _RESUMING),
    (_FIT, "_combined_loader", None, _RESUMING),
    (_FIT, "_can_stop_early", None, _RUN),
    (_LOOP, "_restarting", None, _RESUMING),
    (_FIT, "_restart_stage", None, _RESUMING),
    (_FIT, "reset_restart_stage", (), _RESUMING),
    (_STEPS, "_restart_stage", None, _RESUMING),
    (_STEPS, "reset_restart_stage", (), _RESUMING),
    (_STEPS, "_batches_that_stepped", None, _RESUMING),
    (_STEPS, "_num_ready_batches_reached", (), _RESUMING),
    (_STEPS, "_should_check_val_fx", ("data_fetcher",), _RESUMING),
    (_STEPS, "_update_learning_rates", ("interval", "update_plateau_schedulers"), _RESUMING),
    (_STEPS, "_broadcast_sigterm_tensor", (), _SIGNALS),
    (f"{_LOOPS}.evaluation_loop._EvaluationLoop", "_has_run", None, _RESUMING),
    (f"{_LOOPS}.evaluation_loop._EvaluationLoop", "_restart_stage", None, _RESUMING),
    (f"{_LOOPS}.evaluation_loop._EvaluationLoop", "reset_restart_stage", (), _RESUMING),
    (_LOADER, "_load_state_dicts", ("states",), _RESUMING),
    (_TRAINER, "_logger_connector", None, _RESUMING),
    (_LOGS, "_callback_metrics", None, _RESUMING),
    (_LOGS, "on_batch_end", (), _SIGNALS),
    (_LOGS, "update_train_step_metrics", (), _SIGNALS),
    (_TRAINER, "_signal_connector", None, _SIGNALS),
    (f"{_CONNECTORS}.signal_connector._SignalConnector", "register_signal_handlers", (), _SIGNALS),
    (_TRAINER, "_accelerator_connector", None, _SIGNALS),
    (_ACCELERATOR, "cluster_environment", None, _SIGNALS),
    (_TRAINER, "_checkpoint_connector", None, _RUN),
    (f"{_CONNECTORS}.checkpoint_connector._CheckpointConnector", "_hpc_resume_path", None, _RUN),
    (f"{_LAUNCHERS}.subprocess_script._SubprocessScriptLauncher", "kill", ("signum",), _SIGNALS),
    ("lightning.pytorch.LightningModule", "_trainer", None, "module.py"),
    ("lightning.pytorch.strategies.Strategy", "launcher", None, "distributed/watchdog.py"),
    ("lightning.pytorch.strategies.Strategy", "_checkpoint_io", None, "lifecycle/saving.py"),
    (_PARALLEL, "_layer_sync", None, "distributed/sharding.py"),
    ("lightning.pytorch.strategies.DDPStrategy", "_ddp_kwargs", None, "training/preflight.py"),
    ("lightning.pytorch.callbacks.EarlyStopping", "_check_on_train_epoch_end", None, _RESUMING),
    (_SAVES, "_every_n_train_steps", None, _RUN),
    (_SAVES, "_train_time_interval", None, _RUN),
    (_SAVES, "_save_on_train_epoch_end", None, _RUN),
    (_SAVES, "_enable_version_counter", None, _RUN),
    ("torch._dynamo.eval_frame.OptimizedModule", "_orig_mod", None, "training/output_check.py"),
    ("jsonargparse.ArgumentParser", "_actions", None, "cli/lightning_cli.py"),
]
"""Owner, name, parameters of a method without `self`, and the file that needs it."""
IMPORTED = [
    (f"{_LOOPS}.fit_loop", "_FitLoop", _RESUMING),
    (f"{_LOOPS}.fit_loop.RestartStage", "RESTARTED_MID_EPOCH", _RESUMING),
    (f"{_LOOPS}.training_epoch_loop.RestartStage", "RESTARTED_ON_LAST", _RESUMING),
    (f"{_LOOPS}.evaluation_loop.RestartStage", "RESTARTED_MID_EVALUATION", _RESUMING),
    (f"{_CONNECTORS}.signal_connector", "_SignalConnector", _SIGNALS),
    (f"{_LAUNCHERS}.multiprocessing", "_MultiProcessingLauncher", "distributed/watchdog.py"),
    (f"{_LAUNCHERS}.subprocess_script", "_SubprocessScriptLauncher", _SIGNALS),
    ("torch.nn.modules.batchnorm", "_NormBase", "training/step.py"),
    ("torch", "_assert_async", "losses/checks.py"),
    ("torch._subclasses.fake_tensor", "FakeTensor", "losses/tracing.py"),
    ("torch", "_C", "losses/tracing.py"),
    ("torch._C", "_TorchDispatchModeKey", "losses/tracing.py"),
    ("torch._C._TorchDispatchModeKey", "PROXY", "losses/tracing.py"),
    ("torch._C._TorchDispatchModeKey", "FUNCTIONAL", "losses/tracing.py"),
    ("torch._C", "_get_dispatch_mode", "losses/tracing.py"),
    ("torch._C", "_are_functorch_transforms_active", "losses/tracing.py"),
    ("torch.ops.mkldnn", "_is_mkldnn_bf16_supported", "training/precision.py"),
    ("torch.cpu", "_is_avx512_bf16_supported", "training/precision.py"),
    ("torch.cpu", "_is_amx_tile_supported", "training/precision.py"),
    ("lightning_utilities.core.imports", "package_available", "cli/app.py"),
    ("lightning_utilities.core.imports.RequirementCache", "_check_available", "cli/app.py"),
    ("jsonargparse", "_typehints", "cli/class_arguments.py"),
    ("jsonargparse._typehints", "discard_init_args_on_class_path_change", "cli/class_arguments.py"),
    ("jsonargparse", "_core", _PARSED),
    ("jsonargparse._core", "find_action_and_subcommand", _PARSED),
    ("jsonargparse", "_subcommands", _PARSED),
    ("jsonargparse._subcommands", "find_action_and_subcommand", _PARSED),
    ("jsonargparse", "_util", _PARSED),
    ("jsonargparse._util", "get_import_path", _PARSED),
    ("jsonargparse.typing", "get_import_path", _PARSED),
]
"""Owner, name, and the file that needs it."""


def resolved(name):
    """What a dotted name stands for, also where its last parts are attributes."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ImportError(name)


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def source_of(cls):
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (TypeError, OSError):  # written in C
        return ast.Module([], [])


def attributes_of(cls):
    """Names that a class itself has or gives to its objects."""
    nodes = [node for node in ast.walk(source_of(cls)) if isinstance(node, ast.Attribute)]
    given = {n.attr for n in nodes if isinstance(n.ctx, ast.Store) and is_self(n.value)}
    return given | set(vars(cls))


def is_self(node):
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def is_super(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "super"


def used_by(cls):
    """Private names that a class has, or asks itself or its bases for."""
    nodes = [node for node in ast.walk(source_of(cls)) if isinstance(node, ast.Attribute)]
    asked = {n.attr for n in nodes if is_self(n.value) or is_super(n.value)}
    return {name for name in asked | set(vars(cls)) if is_private(name)}


def parameters_of(method):
    return tuple(name for name in inspect.signature(method).parameters if name != "self")


def fault(owner, name, parameters, used_in):
    """What an upgrade has changed; None if nothing."""
    short = f"{owner.split('.')[0]}'s {owner.split('.')[-1]}"
    cls = resolved(owner)
    if not any(name in attributes_of(base) for base in cls.__mro__):
        return f"{short} has no {name} any more; see seg/{used_in}"
    if parameters is not None and (found := parameters_of(getattr(cls, name))) != parameters:
        return f"{short}.{name} takes {found} and no longer {parameters}; see seg/{used_in}"
    return None


@pytest.mark.parametrize(("owner", "name", "parameters", "used_in"), REACHED, ids=str)
def test_what_is_reached_for_is_there(owner, name, parameters, used_in):
    assert fault(owner, name, parameters, used_in) is None
    assert (PACKAGE / used_in).is_file()


@pytest.mark.parametrize("known", INHERITED, ids=lambda known: known.name)
def test_what_subclasses_take_over_is_there(known):
    assert fault(known.owner, known.name, known.parameters, known.used_in) is None
    assert (PACKAGE / known.used_in).is_file()
    assert known.reason


@pytest.mark.parametrize(("owner", "name", "used_in"), IMPORTED, ids=str)
def test_what_is_imported_is_there(owner, name, used_in):
    message = f"{owner} has no {name} any more; see seg/{used_in}"
    assert hasattr(resolved(owner), name), message
    assert (PACKAGE / used_in).is_file()


def test_a_name_or_a_parameter_that_is_gone_is_told_in_a_sentence():
    owner = "lightning.pytorch.callbacks.ModelCheckpoint"
    gone = fault(owner, "_saved_long_ago", None, "a.py")
    assert gone == "lightning's ModelCheckpoint has no _saved_long_ago any more; see seg/a.py"
    other = fault(owner, "_save_checkpoint", ("trainer", "path"), "a.py")
    assert other.startswith("lightning's ModelCheckpoint._save_checkpoint takes ('trainer', 'file")


def test_every_private_name_of_the_folder_is_watched_here():
    watched = {name for _, name, *_ in [*REACHED, *IMPORTED, *INHERITED]}
    missing = {}
    for path in sorted((PACKAGE / "lightning_compat").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.attr] if isinstance(node, ast.Attribute) else []
            names = [a.name for a in node.names] if isinstance(node, ast.ImportFrom) else names
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value] if node.value.isidentifier() else []
            missing |= {n: path.name for n in names if is_private(n) and n not in watched}
    assert missing == {}


def taken_over():
    """Class, private name and foreign base of all that classes of `seg` take over."""
    machinery = {"_abc_impl", "_backward_cls"}  # of Python's abc and torch's Function
    for module in pkgutil.walk_packages(seg.__path__, "seg."):
        if module.name == "seg.__main__":
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if not inspect.isclass(cls) or cls.__module__ != module.name:
                continue
            path = Path(inspect.getsourcefile(cls)).relative_to(PACKAGE).as_posix()
            for base in cls.__mro__[1:]:
                if base.__module__.split(".")[0] in ("lightning", "torch", "jsonargparse"):
                    for name in (used_by(cls) & attributes_of(base)) - machinery:
                        yield path, name, base


@pytest.mark.slow
def test_whatever_a_subclass_takes_over_is_listed():
    listed = {(known.used_in, known.name) for known in INHERITED}
    assert {(path, name) for path, name, _ in taken_over()} == listed


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A module and the trainer that has fitted it, for one epoch of two steps."""
    given = {"accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 2, "logger": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    folder = tmp_path_factory.mktemp("fit")
    fit = L.Trainer(**given, **quiet, limit_val_batches=1, default_root_dir=folder)
    module = BoringModel()
    fit.fit(module)
    return module, fit


def test_a_fit_that_is_over_says_so(fitted):
    module, fit = fitted
    assert trainer.trainer_of(module) is fit and trainer.trainer_of(BoringModel()) is None
    assert loops.steps_are_over(fit)
    assert loops.may_stop_early(fit.fit_loop)
    assert not trainer.is_requeued(fit)
    assert not trainer.spawns(fit.strategy)
    loops.load_metrics(fit, {"own": torch.tensor(2.0)})
    assert fit.callback_metrics["own"] == 2.0


def test_loops_that_go_on_take_the_place_they_are_told(fitted):
    _, fit = fitted
    loop = fit.fit_loop
    loops.restart_within_epoch(loop)
    loops.repeat_validation(loop)
    assert loop.restarted_mid_epoch and not loop.restarting
    assert loop.epoch_loop.restarted_on_last
    assert loop.epoch_loop.val_loop.restarted_mid_evaluation
    loops.end_of_restart(loop)
    assert not loop.restarted_mid_epoch


def test_the_epoch_loop_saves_its_count_under_the_known_key(fitted):
    _, fit = fitted
    epoch_loop = fit.fit_loop.epoch_loop
    assert epoch_loop.on_save_checkpoint()[loops.STEPPED] == 2
    loops.count_step_again(fit.fit_loop)
    assert epoch_loop.on_save_checkpoint()[loops.STEPPED] == 1


def test_callbacks_are_asked_and_told_when_they_act():
    early = L.pytorch.callbacks.EarlyStopping("x", check_on_train_epoch_end=True)
    assert trainer.looks_at_epoch_end(early)
    trainer.look_at_epoch_end(early, False)
    assert not trainer.looks_at_epoch_end(early)
    given = {"every_n_train_steps": 3, "enable_version_counter": False}
    saves = L.pytorch.callbacks.ModelCheckpoint(**given)
    assert trainer.moments_within_epoch(saves)["every_n_train_steps"] == 3
    assert not trainer.numbers_versions(saves) and trainer.saves_at_epoch_end(saves) is None
    trainer.save_at_epoch_end(saves, True)
    assert trainer.saves_at_epoch_end(saves)


def test_a_parser_names_its_options():
    parser = ArgumentParser(prog="p")
    parser.add_argument("--size", type=int)
    assert option_of(parser, "size").option_strings == ["--size"]


def test_packages_that_torchmetrics_need_not_import_are_missing_for_it_alone():
    text, sound, others = map(imports.RequirementCache, (f"{TEXT}>=1", SOUND, "torch>=2"))
    with lean_torchmetrics():
        taken = imports.package_available
        assert not text and not sound and others
        assert not taken(TEXT) and not taken(SOUND) and taken("torch")
    assert not text and sound and taken(SOUND) and imports.RequirementCache(SOUND)


def test_what_discards_arguments_of_another_class_is_asked_while_it_parses():
    asked = []

    def discard(option, before, value):
        asked.append((before["class_path"], value["class_path"]))
        before["init_args"] = {}

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(torch.optim.Optimizer, "o", skip={"params"})
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0}}
    parser.set_defaults(o=sgd)
    with discarding(discard):
        parser.parse_args(["--o=torch.optim.Adam"])
    assert ("torch.optim.SGD", "torch.optim.Adam") in asked
    asked.clear()
    parser.parse_args(["--o=torch.optim.Adam"])
    assert asked == []


def test_options_and_classes_that_were_found_once_are_found_again_without_a_search(monkeypatch):
    searched = []

    def noted(function):
        def search(*args, **kwargs):
            if len(args) > 1 or isinstance(args[0], type):
                searched.append((function.__name__, *args, kwargs.get("exclude")))
            return function(*args, **kwargs)

        return search

    for name, modules in (
        ("find_action_and_subcommand", (_subcommands, _core)),
        ("get_import_path", (_util, typing)),
    ):
        search = noted(getattr(modules[0], name))
        for module in modules:
            monkeypatch.setattr(module, name, search)
    outer, parser = ArgumentParser(exit_on_error=False), ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(torch.optim.SGD, "o", skip={"params"})
    outer.add_subcommands().add_subcommand("run", parser)
    given = ["run", "--o.lr=2", "--o.nesterov=true"]
    plain = outer.parse_args(given)
    times = len(searched)
    searched.clear()
    with known_classes(), known_options():
        found = outer.parse_args(given)
        dumped = outer.dump(found)
    assert found == plain and found.run.o.lr == 2.0
    assert len(searched) == len(set(searched)) < times
    assert dumped == outer.dump(plain)
    assert _util.get_import_path is typing.get_import_path is search
    searched.clear()
    with known_options():
        parser.add_argument("--late", type=int, default=1)
        assert outer.parse_args(["run", "--late=3"]).run.late == 3


def test_a_search_for_an_option_takes_what_it_took():
    parameters = ("parser", "dest", "exclude")
    message = "jsonargparse's find_action_and_subcommand takes other arguments; see seg/" + _PARSED
    assert parameters_of(_subcommands.find_action_and_subcommand) == parameters, message
    assert _core.find_action_and_subcommand is _subcommands.find_action_and_subcommand
    assert parameters_of(_util.get_import_path) == ("value",)
    assert typing.get_import_path is _util.get_import_path


def test_what_torch_does_with_a_call_is_known_in_it():
    seen = {}

    def note(name, x):
        seen[name] = torch_names.is_recorded(), torch_names.is_transformed()
        return x * 2

    x = torch.ones(2)
    note("plain", x)
    torch.func.vmap(lambda y: note("vmap", y))(x)
    torch.fx.experimental.proxy_tensor.make_fx(lambda y: note("make_fx", y))(x)
    assert seen == {"plain": (False, False), "vmap": (False, True), "make_fx": (True, False)}


def test_torch_names_mean_what_they_did():
    assert issubclass(torch.nn.BatchNorm2d, torch_names.NormBase)
    assert issubclass(torch.nn.InstanceNorm2d, torch_names.NormBase)
    assert not issubclass(torch.nn.GroupNorm, torch_names.NormBase)
    with pytest.raises(RuntimeError, match="no weights"):
        torch_names.assert_async(torch.tensor(False), "no weights")
    with torch._subclasses.fake_tensor.FakeTensorMode():
        assert isinstance(torch.ones(1), torch_names.FakeTensor)
    assert isinstance(torch_names.has_bf16_instructions(), bool)

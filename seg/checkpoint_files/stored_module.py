"""A module that its checkpoint can make anew."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
from jsonargparse import ArgumentError, ArgumentParser

from seg.checkpoint_files.contents import read_checkpoint, read_config
from seg.errors import InputError

if TYPE_CHECKING:
    from typing import Self

    of_class = classmethod
else:

    class of_class(classmethod):
        """A class method that an object refuses, on which it would change nothing."""

        def __get__(self, instance: Any, owner: Any = None) -> Callable[..., Any]:
            """The method of the class, or of an object what refuses the call."""
            return super().__get__(None, owner) if instance is None else _refuse


class StoredModule(L.LightningModule):
    """A LightningModule whose checkpoints may carry, as `config`, what it was made of."""

    @of_class
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        trust: str | Sequence[str] = (),
        **given: Any,
    ) -> "Self":
        """The module of a checkpoint, with its weights, in training mode.

        Network, loss and settings are those of the configuration in the checkpoint. A fit from
        Python stores none: give them as they were in that fit.

        Args:
            checkpoint_path: A local file.
            map_location: Device of the weights. Left out, that of the run, or the CPU without it.
            hparams_file: As in Lightning.
            strict: Whether all weights of file and module must pair.
            weights_only: Left out, true: no code of the file is run.
            trust: Further packages whose classes the checkpoint may name.
            given: Arguments of the constructor that take the place of the stored ones.

        Raises:
            InputError: If the file is none, names what is not trusted, lacks an argument, or its
                weights do not fit.
        """
        arguments = _stored_arguments(cls, checkpoint_path, trust, given)
        try:
            return super().load_from_checkpoint(
                checkpoint_path,
                map_location=map_location,
                hparams_file=hparams_file,
                strict=strict,
                weights_only=True if weights_only is None else weights_only,
                **arguments,
            )
        except RuntimeError as error:
            first, *faults = str(error).split("\n")
            if not first.startswith("Error(s) in loading state_dict"):
                raise
            raise InputError(
                f"{checkpoint_path}: its weights are not those of this network and loss: "
                f"{faults[0].strip()}"
            ) from error


def _stored_arguments(
    cls: type, path: str | Path, trust: str | Sequence[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of a module's constructor: those given, the others from a checkpoint."""
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint.get("config"), dict):
        names = {key: checkpoint[key] for key in ("class_names",) if key in checkpoint}
        arguments = {**names, **given}
        _check_complete(cls, path, arguments)
        return arguments
    model = read_config(path, trust, without=given)["model"]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "model", skip=set(given), instantiate=False)
    try:
        stored = parser.instantiate(parser.parse_object({"model": model})).model
    except ArgumentError as error:
        first = str(error).strip().partition("\n")[0]
        raise InputError(f"{path}: the configuration that it carries: {first}") from error
    return {**vars(stored), **given}


def _check_complete(cls: type, path: str | Path, arguments: Mapping[str, Any]) -> None:
    parameters = inspect.signature(cls).parameters.values()
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in arguments]
    if missing:
        wanted = ", ".join(f"{name}=…" for name in missing)
        raise InputError(
            f"{path}: carries no configuration, as no `seg fit` wrote it; give {wanted} as in the "
            "fit that wrote it."
        )


def _refuse(*args: Any, **settings: Any) -> None:
    raise InputError(
        "load_from_checkpoint of a module makes another one and leaves this as it is; call "
        "SegmentationModule.load_from_checkpoint(path) and take what it returns."
    )

"""What fills in a configuration: the data's classes, and a checkpoint's own configuration."""

import inspect
import json
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import yaml
from jsonargparse import Namespace

from seg.checkpoint_files.contents import read_config
from seg.cli.class_arguments import FROM_DATA, TO_FILL_IN
from seg.cli.given_values import given_values, root_from_environment
from seg.errors import InputError
from seg.losses import CompoundLoss
from seg.networks import check_encoder, hub_normalisation, is_weight_file


def link_network(model: Namespace, weights_given: bool) -> None:
    """Fill in what the network's constructor needs to know of the data and the loss.

    Args:
        model: The `model` part of the configuration, changed in place.
        weights_given: Whether a checkpoint's weights follow, so that none are fetched.

    Raises:
        InputError: If a value configured by hand contradicts the data.
    """
    if "init_args" not in model.network:
        model.network.init_args = Namespace()  # type: ignore[no-untyped-call]
    init_args = model.network.init_args
    parameters = inspect.signature(_import(model.network.class_path)).parameters
    logits = _channels(model.loss, len(model.class_names))
    for key, value in zip(FROM_DATA, (logits, model.in_channels), strict=True):
        if key in parameters:
            given = init_args.get(key)
            if given not in (None, TO_FILL_IN, value, parameters[key].default):
                if weights_given and key == "classes":
                    raise InputError(
                        f"The checkpoint's network has {given} logits a pixel, and "
                        f"{model.loss.class_path} needs {value}; use the loss that it was trained "
                        "with, or --model.init_from to start a fine-tuning from it."
                    )
                raise InputError(
                    f"model.network.init_args.{key} is {given}, but the data and the loss need "
                    f"{value}; leave it out, it is filled in."
                )
            init_args[key] = value
    if model.network.class_path.startswith("segmentation_models_pytorch."):
        check_encoder(init_args.get("encoder_name"))
    if "encoder_weights" in parameters:
        weights = model.encoder_weights or init_args.get("encoder_weights")
        from_file = isinstance(weights, str) and is_weight_file(weights)
        fresh = weights_given or model.init_from is not None
        model.encoder_weights = weights if from_file and not fresh else None
        init_args.encoder_weights = None if from_file or fresh else weights
        _link_normalisation(model)


def _link_normalisation(model: Namespace) -> None:
    """Normalise as the encoder's weights on the hub ask for, where smp knows them."""
    name, weights = (model.network.init_args.get(k) for k in ("encoder_name", "encoder_weights"))
    given = model.mean is not None or model.std is not None
    if isinstance(name, str) and isinstance(weights, str) and not given:
        known = hub_normalisation(name, weights, model.in_channels)
        model.mean, model.std = known or (None, None)


def _channels(loss: Namespace, num_classes: int) -> int:
    """Number of logits a pixel that a loss, or the first part of a sum of losses, needs."""
    loss_class = _import(loss.class_path)
    if issubclass(loss_class, CompoundLoss) and loss.init_args.parts:
        return _channels(next(iter(loss.init_args.parts.values())), num_classes)
    channels: int = loss_class.channels(num_classes)
    return channels


def _import(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module), name)


def with_checkpoint_config(args: Sequence[str]) -> list[str]:
    """Put the configuration that a checkpoint carries before all other arguments.

    Everything for `fit --ckpt_path`, which resumes; network and data for validate, test and
    predict; the network alone for `--model.init_from`. The environment's root of the data follows.
    """
    command, rest = (args[0], list(args[1:])) if args else ("", [])
    trust = [name for value in given_values(rest, "trust") for name in yaml.safe_load(f"[{value}]")]
    given: list[str] = []
    stored = None
    for path in given_values(rest, "model.init_from")[-1:]:
        given += _as_option({"model": _network_of(read_config(path, _flat(trust)))})
    for path in given_values(rest, "ckpt_path")[-1:]:
        config = read_config(path, _flat(trust))
        if command != "fit":
            config = {"model": config["model"], "data": {**config["data"], "predict": None}}
        given += _as_option(config)
        stored = config.get("data", {})
    if not command.startswith("-"):
        given += root_from_environment(rest, stored)
    return [command, *given, *rest] if args else []


def _flat(names: list[Any]) -> list[str]:
    return [n for name in names for n in (name if isinstance(name, list) else [name])]


def _as_option(config: dict[str, Any]) -> list[str]:
    return ["--config", json.dumps(config)]


def _network_of(config: dict[str, Any]) -> dict[str, Any]:
    model = config["model"]
    for key in FROM_DATA:
        model["network"].get("init_args", {}).pop(key, None)
    keys = ("network", "mean", "std", "input_stride", "input_size")
    return {key: model[key] for key in keys if model.get(key) is not None}

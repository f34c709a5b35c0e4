"""What the subcommands' parsers share: the data of a YAML, as `seg fit` reads it."""

from jsonargparse import ArgumentParser

from seg.data import SegmentationDataModule


def data_parser(command: str, description: str) -> ArgumentParser:
    """A parser that takes `-c FILE` and every option of `data`.

    Args:
        command: Name of the subcommand.
        description: What it does, for `--help`.
    """
    parser = ArgumentParser(prog=f"seg {command}", description=description)
    parser.add_argument("-c", "--config", action="config", help="A YAML with `data:`.")
    parser.add_class_arguments(SegmentationDataModule, "data")
    return parser

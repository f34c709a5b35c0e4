"""What `--help` says of the options is what the parsers do with them."""

import pytest

from seg.cli.command_table import COMMANDS, TRAINER
from seg.cli.lightning_cli import SegCLI
from seg.cli.parsers import CommandParser
from seg.cli.short_help import OF_RUN, SHORT, short_help
from tests.cli.test_app import seg


class Parsed(Exception):
    """Raised in the place of parsing, by the parser."""


@pytest.fixture
def parser_of(monkeypatch):
    """The parser that a command makes."""

    def find(name):
        def stop(parser, *args, **kwargs):
            raise Parsed(parser)

        def stop_cli(cli, parser, args):
            (made,) = parser.family
            raise Parsed(made)

        monkeypatch.setattr(SegCLI, "parse_arguments", stop_cli)
        monkeypatch.setattr(CommandParser, "parse_args", stop)
        is_trainers = COMMANDS[name].module == TRAINER
        with pytest.raises(Parsed) as parsed:
            seg(name, *([] if is_trainers else ["--help-all"]))
        return parsed.value.args[0]

    return find


def value_of(defaults, name):
    """The default of an option; of one that is a class, its path."""
    first, *rest = name.split(".")
    value = defaults[first]
    for key in rest:
        if "init_args" in value and key in value["init_args"]:
            value = value["init_args"]
        value = value[key]
    return value["class_path"] if hasattr(value, "get") and "class_path" in value else value


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_every_option_of_the_help_is_one_of_the_parser_with_that_default(name, parser_of):
    defaults = parser_of(name).get_defaults()
    for options in SHORT[name].values():
        for option in options:
            value = value_of(defaults, option.name.lower())
            if option.default != OF_RUN:
                assert option.default == value, option.name


@pytest.mark.parametrize("name", SHORT)
def test_the_help_fits_into_80_columns_and_leads_to_the_whole(name, capsys):
    assert seg(name, "--help") == 0
    text = capsys.readouterr().out
    assert text == f"{short_help(name)}\n"
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) < 80
    assert lines[-1] == f"`seg {name} --help-all` lists every option."


def test_the_help_of_fit_has_thirty_options_each_once_with_its_default(capsys):
    options = [option for group in SHORT["fit"].values() for option in group]
    assert len({option.name for option in options}) == len(options) == 30
    words = " ".join(short_help("fit").split())
    for option in options:
        assert f" --{option.name} {option.says}" in words
        if option.default is not None:
            assert f"{option.says} Default: {option.default}." in words

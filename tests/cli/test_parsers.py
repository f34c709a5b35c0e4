"""What is wrong with a command line or a YAML is told in one line, with the nearest name."""

import pytest
import yaml

from seg.cli.lightning_cli import RunParser
from seg.cli.parsers import one_line
from tests.cli.test_app import seg

pytestmark = pytest.mark.slow

CASES = [
    (["fit", "--data.crop_sise=3"],
     "there is no --data.crop_sise; the nearest is --data.crop_size."),
    (["fit", "--size", "320", "480"], "there is no --size; --help-all lists what there is."),
    (["fit", "-c", {"data": {"crop_sise": 3}}],
     "there is no data.crop_sise; the nearest is data.crop_size."),
    (["fit", "-c", {"dat": {"crop_size": 3}}],
     "there is no dat.crop_size; the nearest is data.crop_size."),
    (["fit", "-c", {"model": {"loss": {"class_path": "seg.losses.FocalLos"}}}],
     "model.loss: there is no seg.losses.FocalLos; the nearest is FocalLoss."),
    (["fit", "-c", {"model": {"loss": {"class_path": "seg.losses.FocalLoss",
                                       "init_args": {"gama": 2}}}}],
     "model.loss: seg.losses.FocalLoss takes no gama; the nearest is gamma."),
    (["fit", "--model.loss=FocalLos"],
     "model.loss: FocalLos is no known class, and no file; write its class_path."),
    (["fit", "--data.batch_size=x"], "data.batch_size: expected int; got x."),
    (["fit", "-c", {"data": {"root": "/tmp", "class_names": [False, True]}}],
     "data.class_names: expected list[str] or null; got [False, True]; YAML reads yes, no, on and "
     "off as True and False: quote them."),
    (["fit", "-c", {"data": {"root": "/tmp", "class_names": [1, 2]}}],
     "data.class_names: expected list[str] or null; got [1, 2]; quote what is to be text."),
    (["fit", "-c", {"data": {"root": "/tmp", "class_names": ["a", None]}}],
     "data.class_names: expected list[str] or null; got ['a', None]; quote what is to be text."),
    (["fit", "--trainer.max_epochs"], "argument --trainer.max_epochs: expected one argument"),
    (["fit", "-c", "/none.yaml"], "config: File does not exist: "),
    (["audit", "-c", {"dta": {"crop_size": [3, 3]}, "model": {"init_from": None}}],
     "there is no dta.crop_size; the nearest is data.crop_size."),
    (["audit", "-c", {"data": {"crop_sise": 3}, "trainer": {"max_epochs": 3}}],
     "there is no data.crop_sise; the nearest is data.crop_size."),
    (["audit", "-c", {"data": {"crop_sise": 3}}],
     "there is no data.crop_sise; the nearest is data.crop_size."),
    (["audit", "--data.rot=x"], "there is no --data.rot; the nearest is --data.root."),
    (["split", "--data.roots=x"], "there is no --data.roots; the nearest is --data.root."),
    (["fitt"], "there is no command fitt; the nearest is fit."),
    (["xyzzy"], "there is no command xyzzy; seg --help lists what there is."),
    ([], "give a command: init, fit, validate, test, predict, audit, "),
]  # fmt: skip


@pytest.mark.parametrize(("args", "said"), CASES, ids=lambda value: str(value)[:50])
def test_a_wrong_word_is_told_in_one_line(args, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = []
    for arg in args:
        if isinstance(arg, dict):
            (tmp_path / "mine.yaml").write_text(yaml.safe_dump(arg))
            arg = "mine.yaml"
        given.append(arg)
    try:
        status = seg(*given)
    except SystemExit as ended:  # of a parser
        status = ended.code
    assert status == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"seg: error: {said}")


def test_any_other_message_becomes_one_line():
    message = 'Parser key "a.b":\n  Problem with it:\n    - one\n    - two'
    assert one_line(message, list) == "a.b: Problem with it: one two"


def test_what_was_checked_when_it_was_parsed_is_not_checked_again_when_it_is_written():
    parser = RunParser(exit_on_error=False)
    parser.add_argument("--size", type=int)
    config = parser.parse_args(["--size=3"])
    config.other = 4
    with pytest.raises(KeyError, match="'other' is not accepted"):
        parser.dump(config)
    parser.checked = True
    assert yaml.safe_load(parser.dump(config)) == {"size": 3, "other": 4}

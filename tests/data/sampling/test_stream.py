"""What a training step sees is a function of seed and step: real files, loaders, ranks, resumes."""

import json

import pytest

from tests.conftest import SMALL, write_pairs
from tests.processes import make_runs

pytestmark = pytest.mark.slow

PIXELWISE = [
    "--model.network=torch.nn.Conv2d",
    "--model.network.kernel_size=1",
    "--model.network.in_channels=3",
    "--model.network.out_channels=3",
]
# Ranks and loader processes. Every one makes two epochs of four steps of four samples.
SPLITS = [(1, 0), (1, 4), (2, 1), (4, 0), (4, 1)]
# Ranks and loader processes that stop in the midst of the second epoch, and those that go on.
RESUMES = [((1, 1), (1, 0)), ((2, 0), (4, 1))]
MIDST = 6


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """Folder with what the steps of every run got."""
    folder = tmp_path_factory.mktemp("streams")
    for split, count in (("train", 17), ("val", 1)):
        images, masks = (folder / "data" / kind / split for kind in ("images", "masks"))
        write_pairs(images, masks, count, (48, 56), range(3))
    runs = [[ranks, fit(f"{ranks}-{workers}", workers)] for ranks, workers in SPLITS]
    for (ranks, workers), (more, others) in RESUMES:
        name = f"{ranks}-to-{more}"
        runs.append([ranks, [*fit(name, workers), f"--trainer.max_steps={MIDST}"]])
        last = f"--ckpt_path=runs/{name}/version_0/checkpoints/last.ckpt"
        on = ["--trust=[tests]", "--trainer.max_steps=-1", f"--data.num_workers={others}"]
        runs.append([more, ["fit", last, *on]])
    make_runs(folder, runs)
    return folder


def fit(name, workers):
    data = ["--data.root=data", "--data.class_names=[a,b,c]", *SMALL]
    recorder = ["--trainer.callbacks+=tests.recording.Recorder", "--trainer.callbacks.folder"]
    own = [f"--name={name}", f"--data.num_workers={workers}", "--trainer.max_epochs=2"]
    return ["fit", *data, *PIXELWISE, *own, *recorder, f"seen-{name}"]


def steps(folder, name):
    """Step to the names and digests of what all ranks together got, which no two of them share."""
    seen = {}
    for path in (folder / f"seen-{name}").iterdir():
        for line in path.read_text().splitlines():
            step, digests = json.loads(line)
            samples = seen.setdefault(step, {})
            assert not samples.keys() & digests.keys()
            samples.update(digests)
    return seen


def test_a_step_sees_the_same_bytes_on_any_number_of_ranks_and_workers(streams):
    expected = steps(streams, "1-0")
    assert sorted(expected) == list(range(8))
    assert {len(samples) for samples in expected.values()} == {4}
    for ranks, workers in SPLITS[1:]:
        assert steps(streams, f"{ranks}-{workers}") == expected


def test_a_run_resumed_in_the_midst_of_an_epoch_sees_what_it_would_have_seen(streams):
    expected = steps(streams, "1-0")
    for (ranks, _), (more, _) in RESUMES:
        assert steps(streams, f"{ranks}-to-{more}") == expected


def test_an_image_is_augmented_anew_in_every_epoch(streams):
    seen = steps(streams, "1-0")
    first, second = (
        {name: digest for step in epoch for name, digest in seen[step].items()}
        for epoch in (range(4), range(4, 8))
    )
    both = first.keys() & second.keys()
    assert len(both) >= 15
    assert not [name for name in both if first[name] == second[name]]

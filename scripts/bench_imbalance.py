"""What the recipe of `seg audit` gains on rare classes, and what each of its ingredients gives.

    python scripts/bench_imbalance.py --root PATH            # CamVid; 10 to 25 minutes a run
    python scripts/bench_imbalance.py --root PATH --encoder FILE    # fine-tuned
    python scripts/bench_imbalance.py --synthetic            # generated images; minutes
    python scripts/bench_imbalance.py --seldom               # of which few show a rare class

All rows make the same number of steps of as many images. Scores are those of the last epoch on the
validation split, so that no epoch is chosen on it, before and after `seg calibrate`; with several
seeds their mean ± standard deviation. "rare" is the mean IoU of the rarest half of the
classes (rounded down) by pixels of the training split, "frequent" of the others, "at zero" the
classes with an IoU under 0.005 in some seed. Calibrated scores are cross-fitted: images are left
out, in runs of neighbours, of the fit that judges them.

Runs are on a CUDA device if there is one, in the precision that `seg` chooses for the device.
Every run is kept in --output, by which of the four it is, and made once: a table that was begun
goes on where it ended.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
CAMVID = ["-c", "configs/data/camvid.yaml"]
ONE_CYCLE = ["-c", "configs/optimizer/onecycle.yaml"]
SMALL = ["-c", "configs/network/unet_small.yaml", *ONE_CYCLE]
SELDOM = '--data.class_names=["background","plate","disc","bolt","crack"]'
PLACE = ["-c", f"configs/trainer/{'gpu' if torch.cuda.is_available() else 'cpu'}.yaml"]
FINE_TUNED = "configs/network/unet_efficientnet_lite0.yaml"
PLAIN = {
    "cross-entropy": [],
    "weighted": ["-c", "configs/loss/weighted_cross_entropy.yaml"],
    "focal": ["-c", "configs/loss/focal.yaml"],
    "Dice": ["-c", "configs/loss/dice.yaml"],
}
AT_ZERO = 0.005


class Scores(NamedTuple):
    """IoU of every class by name, and its pixels in the training split."""

    iou: dict[str, float]
    pixels: dict[str, int]

    @property
    def rare(self) -> list[str]:
        """The rarest half of the classes."""
        return sorted(self.pixels, key=self.pixels.__getitem__)[: len(self.pixels) // 2]

    def mean(self, names: list[str]) -> float:
        """Mean IoU of some classes."""
        return statistics.mean(self.iou[name] for name in names)

    def row(self) -> dict[str, float]:
        """What the table shows."""
        frequent = [name for name in self.iou if name not in self.rare]
        return {
            "mean": self.mean([*self.iou]),
            "rare": self.mean(self.rare),
            "frequent": self.mean(frequent),
        }


def main() -> None:
    """Makes the runs that are missing and prints the table."""
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[tuple[Scores, Scores]]] = {}
    for seed in options.seeds:
        for name, args in recipes(options).items():
            if not options.only or name in options.only:
                run = train(options, name, seed, args)
                both = validated(options, run), calibrated(options, run)
                rows.setdefault(name, []).append(both)
    show(rows)


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--root", help="the folder of CamVid")
    parser.add_argument("--synthetic", action="store_true", help="generated images instead")
    parser.add_argument("--seldom", action="store_true", help="with rare classes in few of them")
    parser.add_argument("--encoder", help="ImageNet weights of tf_efficientnet_lite0 to fine-tune")
    parser.add_argument("--epochs", type=int, help="20; of --seldom 5, as many steps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="rows by name")
    parser.add_argument("--output", type=Path, default=Path("runs/bench_imbalance"))
    options = parser.parse_args()
    if [options.root is not None, options.synthetic, options.seldom].count(True) != 1:
        parser.error("give --root PATH of CamVid, or --synthetic, or --seldom")
    generated = {"synthetic": options.synthetic, "seldom": options.seldom}
    real = "fine_tuned" if options.encoder else "scratch"
    kind = next((name for name, chosen in generated.items() if chosen), real)
    options.epochs = options.epochs or (5 if options.seldom else 20)
    options.output = (options.output / kind).resolve()
    return options


def data(options: argparse.Namespace) -> list[str]:
    """Arguments that say which images."""
    if options.synthetic:
        return []
    if options.seldom:
        folder = options.output / "images_of_few"
        if not folder.exists():
            part = folder.with_suffix(".part")  # renamed once it is whole
            started = [sys.executable, str(ROOT / "scripts/seldom_images.py"), str(part)]
            subprocess.run(started, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
            part.rename(folder)
        return ["--data.root", str(folder), SELDOM]
    return [*CAMVID, "--data.root", str(Path(options.root).resolve())]


def network(options: argparse.Namespace) -> list[str]:
    """Arguments that say which network, and how it is optimised."""
    if options.synthetic or options.seldom:
        return SMALL
    tuned = ["-c", FINE_TUNED, "--model.encoder_weights", options.encoder]
    return [*ONE_CYCLE, *(tuned if options.encoder else [])]


def recipes(options: argparse.Namespace) -> dict[str, list[str]]:
    """Arguments of each row: plain losses, what the audit recommends, and that less one part.

    Where it recommends larger images, Dice in them as well.
    """
    folder = options.output / "audit"
    advice = folder / "recommended.yaml"
    if not advice.exists():
        seg(["audit", *data(options), "--output", str(folder)], folder.with_suffix(".log"))
    rows = {name: list(args) for name, args in PLAIN.items()}
    settings: dict[str, Any] = yaml.safe_load(advice.read_text(encoding="utf-8"))
    rows["recommended"] = ["-c", str(advice)]
    if "resize" in settings.get("data", {}):  # what larger images do for a plain loss
        larger = {key: settings["data"][key] for key in ("resize", "crop_size")}
        path = folder / "larger_images.yaml"
        path.write_text(yaml.safe_dump({"data": larger}, sort_keys=False), encoding="utf-8")
        rows["Dice in larger images"] = [*PLAIN["Dice"], "-c", str(path)]
    for name, changed in ablations(settings).items():
        path = folder / f"{name.replace(' ', '_')}.yaml"
        path.write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
        rows[name] = ["-c", str(path)]
    return rows


def ablations(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings without each ingredient in turn, by a name that says which.

    Larger images take longer: they go first, and every other ingredient as well as them.
    """
    if "resize" in settings.get("data", {}):
        small = _without(settings, {"resize", "crop_size"})
        less = {name.removeprefix("without "): other for name, other in ablations(small).items()}
        both = {f"without larger images and {name}": other for name, other in less.items()}
        return {"without larger images": small, **both}
    found = {}
    parts: dict[str, Any] = settings["model"]["loss"].get("init_args", {}).get("parts", {})
    for part in parts:
        (other,) = [p for p in parts if p != part]
        found[f"without {part}"] = _copy(settings, loss=parts[other])
    for name, option in (("weights", "weight"), ("gamma", "gamma")):
        having = [p for p in parts if option in parts[p].get("init_args", {})]
        if having:
            changed = _copy(settings)
            loss = changed["model"]["loss"]["init_args"]["parts"]
            for part in having:
                del loss[part]["init_args"][option]
            found[f"without {name}"] = changed
    if "sampler" in settings.get("data", {}):
        found["without sampler"] = _without(settings, {"sampler"})
    return found


def _without(settings: dict[str, Any], options: set[str]) -> dict[str, Any]:
    """The settings without some options of the data."""
    changed = _copy(settings)
    own = changed.pop("data")
    if own.keys() - options:
        changed["data"] = {key: own[key] for key in own if key not in options}
    return changed


def _copy(settings: dict[str, Any], loss: dict[str, Any] | None = None) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(settings))
    if loss is not None:
        copy["model"]["loss"] = loss
    return copy


def train(options: argparse.Namespace, name: str, seed: int, args: list[str]) -> Path:
    """The folder of a run, made now if it is not there."""
    run: Path = options.output / f"{name.replace(' ', '_')}_{seed}"
    done = run / "version_0/checkpoints/last.ckpt"
    if (run / "done").exists():
        return run
    every = f"--trainer.check_val_every_n_epoch={options.epochs}"
    last = [f"--trainer.max_epochs={options.epochs}", every, f"--seed_everything={seed}"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.num_sanity_val_steps=0"]
    place = ["--trainer.default_root_dir", str(options.output), "--name", run.name]
    if done.exists():  # a run that was cut off
        seg(["fit", "--ckpt_path", str(done)], run.with_suffix(".log"))
    else:
        fit = ["fit", *data(options), *network(options), *PLACE, *args, *last, *quiet, *place]
        seg(fit, run.with_suffix(".log"))
    (run / "done").touch()
    return run


def seg(args: list[str], log: Path) -> None:
    """Runs a command of `seg` in a process of its own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        command = [sys.executable, "-m", "seg", *args]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        status = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, env=environment)
    if status.returncode:
        sys.exit(f"status {status.returncode}: {' '.join(command)}\nsee {log}")


def validated(options: argparse.Namespace, run: Path) -> Scores:
    """The scores of the last epoch."""
    with (run / "version_0/metrics.csv").open(encoding="utf-8") as file:
        row = [row for row in csv.DictReader(file) if row.get("val/miou")][-1]
    audit = json.loads((options.output / "audit/audit.json").read_text(encoding="utf-8"))
    pixels = {c["name"]: c["pixels"] for c in audit["splits"]["train"]["classes"]}
    return Scores({name: float(row[f"val/iou/{name}"] or "nan") for name in pixels}, pixels)


def calibrated(options: argparse.Namespace, run: Path) -> Scores:
    """The scores of the last checkpoint with the biases of `seg calibrate`, out of sample."""
    last = run / "version_0/checkpoints/last.ckpt"
    path = last.with_name("last-calibrated.ckpt")
    if not path.exists():
        seg(["calibrate", "--ckpt_path", str(last)], run.with_suffix(".log"))
    found = torch.load(path, weights_only=True)
    pixels = validated(options, run).pixels
    return Scores(dict(zip(pixels, found["calibration"]["iou_biased"], strict=True)), pixels)


def show(rows: dict[str, list[tuple[Scores, Scores]]]) -> None:
    """Prints a table in Markdown."""
    print("| recipe | seeds | mean | rare | frequent | at zero | calibrated: mean ", end="")
    print("| rare | frequent | at zero |\n| --- | ---: | ---: | ---: | ---: | --- ", end="")
    print("| ---: | ---: | ---: | --- |")
    for name, scores in rows.items():
        cells = [cell for part in zip(*scores, strict=True) for cell in _cells(part)]
        print(f"| {name} | {len(scores)} | {' | '.join(cells)} |")


def _cells(scores: Sequence[Scores]) -> list[str]:
    """Mean over all classes, the rare and the frequent ones, and the classes at zero."""
    columns = [s.row() for s in scores]
    zero = [n for n in scores[0].iou if any(s.iou[n] < AT_ZERO for s in scores)]
    means = [_spread([c[key] for c in columns]) for key in ("mean", "rare", "frequent")]
    return [*means, ", ".join(zero) or "none"]


def _spread(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()

"""Prints the IoU of every class of two runs side by side, from what `seg test` wrote of each.

python scripts/quickstart_table.py "plain=FOLDER" "recipe=FOLDER"
"""

import argparse

from seg.report.tables import Record, read_per_class
from seg.report.terminal import UNDEFINED, print_table

RAREST_SHARE = 0.01
"""Share of the pixels below which a class is called rare."""


def main() -> None:
    """Reads the scores and prints the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("tests", nargs="+", metavar="NAME=FOLDER", help="its per_class.json")
    records = {}
    for given in parser.parse_args().tests:
        name, _, folder = given.partition("=")
        record = read_per_class(folder)
        if record is None:
            parser.error(f"{given}: no per_class.json there; expected a folder of seg test")
        records[name] = record
    show(records)


def show(records: dict[str, Record]) -> None:
    """Prints a row a class, the most frequent first as the data name them, and means."""
    first, *_ = records.values()
    pixels = {row["name"]: row["pixels"] for row in first["classes"]}
    share = {name: count / sum(pixels.values()) for name, count in pixels.items()}
    iou = [{row["name"]: row["iou"] for row in r["classes"]} for r in records.values()]
    frequent = [name for name in share if share[name] >= RAREST_SHARE]
    rows = [(name, f"{share[name]:.2%}", *(cell([of[name]]) for of in iou)) for name in share]
    mean = ("mean of those above 1 %", "", *(cell([of[n] for n in frequent]) for of in iou))
    print_table(
        f"IoU on the test split, {first['images']} images",
        ("pixels", *records),
        [*rows, mean],
        ("mean of all", "", *(cell(list(of.values())) for of in iou)),
    )


def cell(scores: list[float | None]) -> str:
    """The mean of the scores that are known."""
    known = [score for score in scores if score is not None]
    return f"{sum(known) / len(known):.3f}" if known else UNDEFINED


if __name__ == "__main__":
    main()

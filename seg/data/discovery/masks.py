"""What masks hold, and the lines of a YAML that read them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from seg.data.discovery.colour_masks import are_colours, survey_colours
from seg.data.discovery.contents import IN_ALPHA, Contents
from seg.data.discovery.setting import KnownLabels
from seg.data.discovery.soft_masks import survey_soft
from seg.data.discovery.survey import MaskSurvey, refused
from seg.data.discovery.value_masks import survey_values

__all__ = ["MaskSurvey", "survey_masks"]


def survey_masks(
    masks: Sequence[Path], known: KnownLabels, advance: Callable[[], object] = lambda: None
) -> MaskSurvey:
    """Read all masks, and find the lines that read them.

    Args:
        masks: Mask files.
        known: What the folder's own files say of labels.
        advance: Called after each mask.
    """
    contents = Contents.of(masks, advance)
    found = _survey(contents, known)
    remarks = [
        f"{number} of {contents.masks} masks: {trait}, such as {path}"
        for trait, (number, path) in contents.traits.items()
        if number < contents.masks
    ]
    of_all = [trait for trait, (number, _) in contents.traits.items() if number == contents.masks]
    return replace(
        found,
        kind=f"{found.kind} ({', '.join(of_all)})" if of_all else found.kind,
        faults=(*contents.faults, *found.faults),
        remarks=(*found.remarks, *remarks),
    )


def _survey(contents: Contents, known: KnownLabels) -> MaskSurvey:
    if not contents.masks:
        return MaskSurvey("none that can be read", (), ())
    if contents.traits.get(IN_ALPHA, [0])[0] * 2 > contents.masks:
        return refused("masks of one colour", "The masks seem to be in the alpha channel, which is "
                       "not read: save alpha as grey.")  # fmt: skip
    soft = survey_soft(contents, known)
    if soft is not None:
        return soft
    if are_colours(contents, known):
        return survey_colours(contents, known)
    return survey_values(contents, known)

"""What torchmetrics, and so Lightning, imports for functions that `seg` does not use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning_utilities.core import imports

TEXT, SOUND = "transformers", "scipy"
"""Packages of which torchmetrics imports a part for its measures of text and of sound."""
_THERE, _CHECK = "package_available", "_check_available"


@contextmanager
def lean_torchmetrics() -> Iterator[None]:
    """Within it, an import of torchmetrics finds those packages missing, and so leaves them out.

    They take longer to import than Lightning itself, and there is no setting for them. What needs
    scipy imports it when called, so that it is there again; measures of text stay refused.
    """
    hidden, told = {TEXT, SOUND}, []
    there, check = getattr(imports, _THERE), getattr(imports.RequirementCache, _CHECK)

    def package_available(name: str) -> bool:
        return name not in hidden and bool(there(name))

    def check_available(of: Any) -> None:
        name = str(of.requirement).partition(">")[0]
        if name in hidden:
            of.available, of.message = False, f"{name} is left out by `seg`, to start faster"
            told.extend([of] if name == SOUND else [])
        else:
            check(of)

    setattr(imports, _THERE, package_available)
    setattr(imports.RequirementCache, _CHECK, check_available)
    try:
        yield
    finally:
        hidden.clear()  # others may have taken the function
        setattr(imports, _THERE, there)
        setattr(imports.RequirementCache, _CHECK, check)
        for of in told:
            vars(of).pop("available", None)  # it is found out again

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data set and weights: SEG_DATA, or beside the project."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SEG_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist; set SEG_DATA to a folder with CamVid/")
    return folder

"""Public path of what reads checkpoints."""

from seg.checkpoint_files.contents import read_checkpoint, read_config
from seg.lifecycle.checkpoint import load_module

__all__ = ["load_module", "read_checkpoint", "read_config"]

"""Public path of `seg.lifecycle.checkpoint`."""

from seg.lifecycle.checkpoint import load_module, read_checkpoint, read_config

__all__ = ["load_module", "read_checkpoint", "read_config"]

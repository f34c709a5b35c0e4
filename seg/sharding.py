"""Public path of `seg.distributed.sharding`."""

from seg.distributed.sharding import ShardedStrategy

__all__ = ["ShardedStrategy"]

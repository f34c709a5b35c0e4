"""What started this process."""

import os


def started_by_lightning() -> bool:
    """Whether this process is one of those that Lightning starts beside the first one."""
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        return False
    # here: commands that train nothing ask as well, and need not wait for Lightning
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    launchers = (TorchElasticEnvironment, SLURMEnvironment)
    return not any(environment.detect() for environment in launchers)

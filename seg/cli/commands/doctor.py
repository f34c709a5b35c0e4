"""`seg doctor`: versions, devices and threads in a few lines, to paste into a bug report.

Each line is found out by itself, so that a broken installation is described too. Where not even
`seg doctor` starts, `python -m seg.cli.commands.doctor` needs the standard library alone.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

LIBRARIES = (
    "lightning",
    "segmentation-models-pytorch",
    "timm",
    "albumentations",
    "torchmetrics",
    "jsonargparse",
    "numpy",
)
GIB = 2**30


def main(args: list[str]) -> int:
    """Print what `seg` runs on; returns the exit status, which is 0 whatever is missing."""
    description = "Versions, devices and threads: paste its output into a bug report."
    argparse.ArgumentParser(prog="seg doctor", description=description).parse_args(args)
    for line in report():
        # a terminal of few characters must not end it
        encoding = sys.stdout.encoding or "utf-8"
        print(line.encode(encoding, "replace").decode(encoding))
    return 0


def report() -> list[str]:
    """The lines, each `name: value`."""
    return [f"{name}: {_guarded(find)}" for name, find in LINES.items()]


def _guarded(find: Callable[[], str]) -> str:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = find()
    except Exception as error:
        return f"not known, {type(error).__name__}: {_first_line(error)}"
    said = {_first_line(warning.message) for warning in caught}
    return "; ".join([found, *sorted(said)])


def _first_line(text: object) -> str:
    return str(text).strip().partition("\n")[0][:200]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _versions() -> str:
    return ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)


def _platform() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"


def _torch() -> str:
    import torch

    builds = {"CUDA": torch.version.cuda, "ROCm": getattr(torch.version, "hip", None)}
    build = [f"{name} {number}" for name, number in builds.items() if number] or ["CPU alone"]
    return f"{torch.__version__}, built for {build[0]}; torchvision {_version('torchvision')}"


def _missing() -> str:
    """Packages that are not there, or of a version that `seg` does not take; by extra."""
    from packaging.requirements import Requirement

    found: dict[str, list[str]] = {}
    for requirement in map(Requirement, requires("seg") or []):
        named = re.search(r"""extra == ['"]([^'"]+)""", str(requirement.marker))
        extra = named[1] if named else ""
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue  # of another platform
        installed = _version(requirement.name)
        if installed == "missing" or not requirement.specifier.contains(installed, True):
            text = f"{requirement.name}{requirement.specifier}"
            text += "" if installed == "missing" else f" (found {installed})"
            found.setdefault(extra, []).append(text)
    optional = {extra: f" (optional, extra {extra})" for extra in found if extra}
    parts = [", ".join(names) + optional.get(extra, "") for extra, names in found.items()]
    return "; ".join(parts) or "nothing"


def _cpu() -> str:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    total = os.cpu_count() or 1
    usable = len(affinity(0)) if affinity is not None else total
    quota = _quota()
    limit = "" if quota is None else f", limited to the time of {quota:g}"
    return f"{_cpu_model()}, {usable} of {total} cores usable{limit}"


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def _quota() -> float | None:
    """The cores' time that a container may use (control groups 2), None without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _precision() -> str:
    from seg.lightning_compat.lean_imports import lean_torchmetrics

    with lean_torchmetrics():
        from seg.training.precision import device_type, precision_of_device

    devices = dict.fromkeys((device_type("auto"), "cpu"))
    found = [precision_of_device(device) for device in devices]
    return "; ".join(f"{value} on {device}" for value, device in filter(None, found))


def _gpus() -> str:
    import torch

    found = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            size = properties.total_memory / GIB
            # of an AMD GPU, which is "cuda" to torch as well, the name of the architecture
            own = f"{properties.major}.{properties.minor}"
            generation = getattr(properties, "gcnArchName", own)
            found.append(f"cuda:{index} {properties.name}, {size:.0f} GiB, {generation}")
    if torch.backends.mps.is_available():
        found.append("mps")
    tools = [tool for tool in ("nvidia-smi", "amd-smi", "rocm-smi") if shutil.which(tool)]
    unused = f", although there is {tools[0]}" if tools else ""
    return "; ".join(found) or f"none that torch can use{unused}"


def _threads() -> str:
    import torch

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    given = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    return f"torch takes {torch.get_num_threads()}; {', '.join(given) or f'{names[0]} is not set'}"


def _shared_memory() -> str:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return "no /dev/shm here"
    usage = shutil.disk_usage(folder)
    return f"/dev/shm has {usage.total / GIB:.1f} GiB, {usage.free / GIB:.1f} free"


LINES: dict[str, Callable[[], str]] = {
    "seg": lambda: _version("seg"),
    "Python": _platform,
    "torch": _torch,
    "libraries": _versions,
    "missing": _missing,
    "CPU": _cpu,
    "GPU": _gpus,
    "precision": _precision,
    "threads": _threads,
    "shared memory": _shared_memory,
}
"""Names of the lines, in their order, and what finds out the rest of each."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

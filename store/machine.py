"""What this machine has to build with."""

from __future__ import annotations

import os
from pathlib import Path

_SHARE = 0.8


def processors(control_group: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors that this process may use, by its affinity and by the quota of its control group (a container's)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota_us, _, period_us = _read(str(control_group / "cpu.max")).strip().partition(" ")
    if quota_us.isdigit() and period_us.isdigit() and int(period_us):
        count = min(count, max(1, round(int(quota_us) / int(period_us))))
    return count


def available_memory_bytes() -> int:
    """Memory that a build may take: four fifths of what is free, in this machine and in this control group."""
    free = [int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))]
    if kib := proc_fields("meminfo").get("MemAvailable"):
        free.append(int(kib.split()[0]) * 1024)
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        free.append(max(0, int(limit) - int(used)))
    return int(_SHARE * min(free))


def proc_fields(name: str, proc: Path = Path("/proc")) -> dict[str, str]:
    """The `name: value` lines of a file of /proc, the last of each name; none where there is no such file."""
    pairs = (line.partition(":") for line in _read(str(proc / name)).splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

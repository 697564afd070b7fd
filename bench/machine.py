"""The facts that a number is worthless without."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from pathlib import Path


def facts() -> str:
    """Processor, kernel, Python, and the disk that temporary files are on."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    folder = tempfile.gettempdir()
    listed = subprocess.run(["df", "--output=fstype", folder], capture_output=True, text=True, check=False).stdout
    kind = (listed.split() or ["", "?"])[-1]
    python = f"Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}, {python}, {folder} on {kind}"

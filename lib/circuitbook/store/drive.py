"""A store on Google Drive, which is mounted when it is first used."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DRIVE = Path("/content/drive")


def mount_drive(path: Path) -> None:
    """Mounts Google Drive if `path` lies on it, in Colab, and it is not there yet; elsewhere
    nothing.
    """
    if (
        not path.is_relative_to(DRIVE)
        or (DRIVE / "MyDrive").exists()
        or importlib.util.find_spec("google.colab") is None
    ):
        return
    from google.colab import drive

    drive.mount(str(DRIVE))

"""Files and folders that only their owner may look into, from the moment that they exist."""

from __future__ import annotations

import os
from pathlib import Path

from regie_chassis.process.settings import WrongSetting

FOLDER_MODE = 0o700
FILE_MODE = 0o600
PRIVATE_UMASK = 0o077


def make_private_folder(path: Path) -> None:
    """Creates a folder with its parents; an existing folder is closed to other users."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    path.chmod(FOLDER_MODE)


def write_private(path: Path, text: str) -> None:
    """Puts a file in place whole, under a mode that never was another."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def read_private(path: Path) -> bytes | None:
    """Returns a file's content; None where there is no file. Raises WrongSetting where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: OSError) -> WrongSetting:
    """Returns the refusal of a data folder with a file or folder that this user cannot use."""
    return WrongSetting(
        f"REGIE_FOLDER: {path} cannot be used ({error.strerror});"
        " make it this user's own, put it back from a backup, or give another folder"
    )


def open_private(path: Path) -> int:
    """Returns a descriptor that appends to a file; an existing file is closed to other users."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor

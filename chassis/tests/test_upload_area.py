"""The upload area: streamed in, referred to, removed, and purged of what a killed process has left."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore, ObjectStore
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.object_store import MediaStoreUnavailable, open_object_store
from regie_chassis.data.upload_area import PART, UploadArea
from regie_chassis.process.settings import WrongSetting
from structlog.testing import capture_logs

LIFE = timedelta(hours=6)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return LocalStore(tmp_path) if request.param == "folder" else MemoryStore()


def paths(store: ObjectStore) -> list[str]:
    return sorted(one["path"] for page in obstore.list(store) for one in page)


async def body(*parts: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if error is not None:
        raise error


@pytest.mark.parametrize("parts", [[], [b""], [b"one"], [b"x" * (PART - 1), b"yz", b"x" * PART]])
async def test_a_file_is_stored_as_it_comes_for_as_long_as_it_is_needed(store: ObjectStore, parts: list[bytes]) -> None:
    upload_id, workspace_id = new_id(), new_id()
    whole = b"".join(parts)
    async with UploadArea(store).receive(body(*parts), upload_id=upload_id, workspace_id=workspace_id) as upload:
        assert (upload.id, upload.workspace_id) == (upload_id, workspace_id)
        assert (upload.size, upload.sha256) == (len(whole), sha256(whole).digest())
        assert paths(store) == [upload.path] == [f"uploads/{workspace_id}/{upload_id}"]
        assert bytes((await obstore.get_async(store, upload.path)).bytes()) == whole
    assert paths(store) == []


@pytest.mark.parametrize("size", [10, PART + 10])
async def test_a_file_that_breaks_off_leaves_nothing(tmp_path: Path, size: int) -> None:
    area = UploadArea(LocalStore(tmp_path))
    broken = body(b"x" * size, b"y", error=KeyError("the client has gone"))
    with pytest.raises(KeyError, match="the client has gone"):
        async with area.receive(broken, upload_id=new_id(), workspace_id=new_id()):
            raise AssertionError("there is no upload")
    assert files(tmp_path) == []


async def test_a_handler_that_fails_leaves_nothing(store: ObjectStore) -> None:
    with pytest.raises(KeyError):
        async with UploadArea(store).receive(body(b"x"), upload_id=new_id(), workspace_id=new_id()):
            raise KeyError
    assert paths(store) == []


async def test_a_store_that_fails_is_unavailable_and_named_in_the_log_without_its_words(tmp_path: Path) -> None:
    area = UploadArea(LocalStore(tmp_path))
    (tmp_path / "uploads").touch()
    with capture_logs() as logs, pytest.raises(MediaStoreUnavailable, match="upload it again"):
        async with area.receive(body(b"x"), upload_id=new_id(), workspace_id=new_id()):
            raise AssertionError("there is no upload")
    assert [(line["event"], line["log_level"], set(line)) for line in logs] == [
        ("media_store.failed", "error", {"event", "error", "log_level"})
    ]


async def test_old_uploads_are_purged_and_nothing_else(store: ObjectStore) -> None:
    area, workspace_id = UploadArea(store), new_id()
    for path in (f"uploads/{workspace_id}/{new_id()}", f"{workspace_id}/medium"):
        await obstore.put_async(store, path, b"x")
    now = datetime.now(UTC)
    assert await area.purge(now=now, life=LIFE) == 0
    assert len(paths(store)) == 2
    assert await area.purge(now=now + LIFE + timedelta(minutes=1), life=LIFE) == 1
    assert paths(store) == [f"{workspace_id}/medium"]
    assert await area.purge(now=now + LIFE + timedelta(minutes=1), life=LIFE) == 0


async def test_what_a_killed_process_was_writing_is_purged_by_its_last_change(tmp_path: Path) -> None:
    staged = tmp_path / "uploads" / "workspace" / "upload#1"
    staged.parent.mkdir(parents=True)
    staged.touch()
    now = datetime.now(UTC)
    area = UploadArea(LocalStore(tmp_path))
    os.utime(staged, (0, (now - LIFE + timedelta(minutes=1)).timestamp()))
    assert await area.purge(now=now, life=LIFE) == 0
    assert await area.purge(now=now + timedelta(minutes=2), life=LIFE) == 1
    assert files(tmp_path) == []


def test_the_folder_of_the_store_is_its_owners_alone(tmp_path: Path) -> None:
    assert isinstance(open_object_store(f"{tmp_path.as_uri()}/a%20b"), LocalStore)
    assert (tmp_path / "a b").stat().st_mode & 0o777 == 0o700


def test_a_store_that_cannot_be_opened_is_a_wrong_setting_and_no_secret_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_USE_EMULATOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "s3cret")
    for url in (f"{tmp_path.as_uri()}/file/media", "az://container"):
        with pytest.raises(WrongSetting, match="REGIE_MEDIA_URL") as refused:
            open_object_store(url)
        assert "s3cret" not in str(refused.value)
        assert "\n" not in str(refused.value)


def files(folder: Path) -> list[Path]:
    """Returns all files, also those that the store does not list."""
    return [path for path in folder.rglob("*") if path.is_file()]

"""The object store that services of one installation share: a folder, or S3, GCS or Azure by URL.

Credentials are taken from the environment, under the names that the provider's own tools use (`AWS_ACCESS_KEY_ID` …).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from regie_chassis.boundary.errors import Unavailable
from regie_chassis.process.settings import WrongSetting

if TYPE_CHECKING:  # obstore has these for type checkers alone
    from obstore.store import RetryConfig

STORE_TIMEOUT = 20.0
"""Seconds for one call to the store, with its retries."""
RETRIES: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=STORE_TIMEOUT)}
OUTAGES = (OSError, TimeoutError, BaseError)
"""Errors of a store that does not answer; an absent object is the OSError FileNotFoundError."""

log = structlog.get_logger()


class MediaStoreUnavailable(Unavailable):
    """The object store does not answer."""


def open_object_store(url: str) -> ObjectStore:
    """Returns the store at a checked URL; only a folder is touched before the first use. Raises WrongSetting."""
    parts = urlsplit(url)
    try:
        if parts.scheme != "file":
            # Options of the client would take the place of those in the environment, as AWS_ALLOW_HTTP.
            return from_url(url, retry_config=RETRIES)
        folder = Path(unquote(parts.path))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the media of all workspaces
        return LocalStore(folder)
    except OSError as error:
        raise WrongSetting(f"REGIE_MEDIA_URL: the folder cannot be made: {error.strerror}") from error
    except BaseError as error:  # its words may hold what a variable of the environment holds
        raise WrongSetting(
            "REGIE_MEDIA_URL: the store cannot be opened; check the URL, and the credentials in the environment"
        ) from error


@contextmanager
def store_outages(message: str) -> Iterator[None]:
    """Turns the failures of a call to the store into MediaStoreUnavailable with this message, and logs their kind.

    The FileNotFoundError of an absent object is no outage, and is passed on.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OUTAGES as error:
        log.error("media_store.failed", error=type(error).__name__)  # its words may hold a signed URL
        raise MediaStoreUnavailable(message) from error

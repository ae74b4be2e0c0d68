"""Errors that callers can act on.

RegieError
├── Invalid            400  INVALID_ARGUMENT     the request can never succeed as it is
├── Unauthenticated    401  UNAUTHENTICATED      no valid identity came with the call
├── PermissionDenied   403  PERMISSION_DENIED    the identity may not do this
├── NotFound           404  NOT_FOUND            no such thing in the caller's workspace
├── Conflict           409  FAILED_PRECONDITION  the thing's state does not allow it now
├── TooLarge           413  OUT_OF_RANGE         the request passes a size limit
├── Unprocessable      422  INVALID_ARGUMENT     well-formed, yet its meaning cannot be accepted
├── TooManyRequests    429  RESOURCE_EXHAUSTED   the same call may succeed later
├── Unavailable        503  UNAVAILABLE          something behind did not answer; the same call may succeed later
└── TimedOut           504  DEADLINE_EXCEEDED    the answer did not come in time

One subclass stands for one reason; its name is the reason (`PostNotFound` → `POST_NOT_FOUND`).
"""

from __future__ import annotations

import re

import grpc

DOMAIN = "regie"


class RegieError(Exception):
    """An error with a reason. The message is a sentence that tells the reader what to do next."""

    grpc_code: grpc.StatusCode
    http_status: int
    retryable: bool = False

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    @property
    def reason(self) -> str:
        """The class name in upper snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).upper()


class Invalid(RegieError):
    grpc_code = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 400


class Unprocessable(RegieError):
    grpc_code = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 422


class Unauthenticated(RegieError):
    grpc_code = grpc.StatusCode.UNAUTHENTICATED
    http_status = 401


class PermissionDenied(RegieError):
    grpc_code = grpc.StatusCode.PERMISSION_DENIED
    http_status = 403


class NotFound(RegieError):
    grpc_code = grpc.StatusCode.NOT_FOUND
    http_status = 404


class Conflict(RegieError):
    grpc_code = grpc.StatusCode.FAILED_PRECONDITION
    http_status = 409


class TooLarge(RegieError):
    grpc_code = grpc.StatusCode.OUT_OF_RANGE
    http_status = 413


class TooManyRequests(RegieError):
    grpc_code = grpc.StatusCode.RESOURCE_EXHAUSTED
    http_status = 429
    retryable = True


class Unavailable(RegieError):
    grpc_code = grpc.StatusCode.UNAVAILABLE
    http_status = 503
    retryable = True


class TimedOut(RegieError):
    grpc_code = grpc.StatusCode.DEADLINE_EXCEEDED
    http_status = 504
    retryable = True

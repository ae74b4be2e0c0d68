from __future__ import annotations

import pytest
from regie_chassis.boundary import errors
from regie_chassis.boundary.errors import NotFound, RegieError

KINDS = [kind for kind in RegieError.__subclasses__() if kind.__module__ == errors.__name__]


class PostNotFound(NotFound):
    pass


def test_the_reason_is_the_name_in_upper_snake_case() -> None:
    assert PostNotFound("give another id").reason == "POST_NOT_FOUND"


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_in_the_docstring_tells_each_kind_as_it_is(kind: type[RegieError]) -> None:
    (line,) = [line for line in str(errors.__doc__).splitlines() if f"── {kind.__name__} " in line]
    _, name, status, code = line.split(maxsplit=4)[:4]
    assert (name, int(status), code) == (kind.__name__, kind.http_status, kind.grpc_code.name)


def test_only_what_may_succeed_later_is_retryable() -> None:
    retryable = {kind.__name__ for kind in KINDS if kind.retryable}
    assert retryable == {"TooManyRequests", "Unavailable", "TimedOut"}

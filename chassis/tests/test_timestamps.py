"""Points in time as messages carry them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from regie_chassis.boundary.timestamps import read_timestamp, timestamp

TIMES = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))


@given(TIMES)
def test_a_time_is_the_message_that_protobuf_makes_of_it_and_comes_back(time: datetime) -> None:
    expected = Timestamp()
    try:
        expected.FromDatetime(time)
    except ValueError:
        return  # in the first or last hours of the calendar, outside the years of a Timestamp
    assert timestamp(time) == expected
    assert read_timestamp(timestamp(time)) == time


def test_no_time_is_no_message() -> None:
    assert timestamp(None) is None

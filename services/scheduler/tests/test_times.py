"""Wall times, zones and the nights on which clocks change."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from regie_scheduler.posts.times import (
    InvalidOccurrence,
    InvalidTime,
    NonexistentTime,
    TimeInPast,
    TimeTooFar,
    latest,
    occurrence_of,
    resolve,
)
from regie_scheduler.posts.zones import NOT_PLACES, InvalidZone, suggestion, zone_names

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
read = datetime.fromisoformat
zones = st.sampled_from(sorted(available_timezones() - NOT_PLACES))
wall_times = st.datetimes(read("2026-01-12T00:00"), read("2030-12-31T00:00"))


@given(wall_times, zones)
@example(read("2026-03-29T02:30"), "Europe/Paris")
@example(read("2026-10-25T02:30"), "Europe/Paris")
@example(read("2026-10-04T02:15"), "Australia/Lord_Howe")  # moves by half an hour
@example(read("2026-03-28T23:30"), "America/Nuuk")
@example(read("2026-09-06T00:30"), "America/Santiago")  # midnight itself does not exist
@example(read("2026-02-15T02:30"), "Africa/Casablanca")
def test_the_instant_reads_back_as_the_wall_time_or_is_refused_with_one_that_does(wall: datetime, zone: str) -> None:
    check_reading(wall, zone)


@given(st.data(), zones)
def test_the_nights_on_which_clocks_change_hold_no_surprise(data: st.DataObject, zone: str) -> None:
    nights = change_nights(zone)
    if nights:
        night = data.draw(st.sampled_from(nights))
        check_reading(night + timedelta(minutes=data.draw(st.integers(-24 * 60, 48 * 60))), zone)


@cache
def change_nights(zone: str) -> list[datetime]:
    """Returns the midnights, as wall times, before those days of four years on which the zone's offset changes."""
    days = [datetime.combine(date(2026, 1, 12) + timedelta(days=number), time(0)) for number in range(4 * 365)]
    offsets = [day.replace(tzinfo=ZoneInfo(zone)).utcoffset() for day in days]
    return [day for day, one, other in zip(days, offsets, offsets[1:], strict=False) if one != other]


def check_reading(wall: datetime, zone: str) -> None:
    """The rule itself: there and back again, the earlier of two, and the first after a gap."""
    try:
        instant = resolve(wall.isoformat(), zone, now=NOW).instant
    except NonexistentTime as error:
        following = read(error.message.rsplit(" ", 1)[1])
        assert following > wall
        found = resolve(following.isoformat(), zone, now=NOW).instant
        assert found.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == following
        with pytest.raises(NonexistentTime):
            resolve((following - timedelta(microseconds=1)).isoformat(), zone, now=NOW)
    else:
        assert instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall
        assert instant == min(wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1))


@pytest.mark.parametrize(
    ("wall", "zone", "following"),
    [
        ("2026-03-29T02:30", "Europe/Paris", "2026-03-29T03:00:00"),
        ("2026-03-29T02:00:00", "Europe/Paris", "2026-03-29T03:00:00"),
        ("2026-03-08T02:59:59.999999", "America/New_York", "2026-03-08T03:00:00"),
        ("2026-10-04T02:15:00", "Australia/Lord_Howe", "2026-10-04T02:30:00"),
        ("2026-09-06T00:00:00", "America/Santiago", "2026-09-06T01:00:00"),
    ],
)
def test_a_time_in_the_gap_is_refused_with_the_next_that_exists(wall: str, zone: str, following: str) -> None:
    with pytest.raises(NonexistentTime, match=f"is {following}$") as caught:
        resolve(wall, zone, now=NOW)
    assert (caught.value.reason, caught.value.field) == ("NONEXISTENT_TIME", "publish_local_time")


def test_a_day_that_a_country_left_out_does_not_exist() -> None:
    with pytest.raises(NonexistentTime, match=r"2011-12-31T00:00:00$"):
        resolve("2011-12-30T12:00:00", "Pacific/Apia", now=datetime(2011, 12, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("wall", "zone", "utc"),
    [
        ("2026-10-25T02:30:00", "Europe/Paris", "2026-10-25T00:30:00+00:00"),
        ("2026-11-01T01:30:00", "America/New_York", "2026-11-01T05:30:00+00:00"),
        ("2026-04-05T01:45:00", "Australia/Lord_Howe", "2026-04-04T14:45:00+00:00"),
    ],
)
def test_a_time_that_comes_twice_means_the_first(wall: str, zone: str, utc: str) -> None:
    assert resolve(wall, zone, now=NOW).instant.isoformat() == utc


@given(st.data(), zones)
@example(None, "Europe/Paris")
def test_either_of_two_instants_can_be_chosen_and_is_told_apart(data: st.DataObject | None, zone: str) -> None:
    nights = change_nights(zone)
    if not nights:
        return
    night = data.draw(st.sampled_from(nights)) if data else read("2026-10-25T00:00")
    wall = night + timedelta(minutes=data.draw(st.integers(-24 * 60, 48 * 60)) if data else 150)
    both = {wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)}
    try:
        resolve(wall.isoformat(), zone, now=NOW)
    except NonexistentTime:
        return
    if len(both) == 1:
        with pytest.raises(InvalidOccurrence):
            resolve(wall.isoformat(), zone, now=NOW, occurrence="second")
    else:
        second = resolve(wall.isoformat(), zone, now=NOW, occurrence="second").instant
        assert second == max(both)
        assert occurrence_of(wall.isoformat(), zone, second) == "second"
    first = resolve(wall.isoformat(), zone, now=NOW, occurrence="first").instant
    assert first == resolve(wall.isoformat(), zone, now=NOW).instant == min(both)
    assert occurrence_of(wall.isoformat(), zone, first) == "first"


@pytest.mark.parametrize(("alias", "zone"), [("US/Eastern", "America/New_York"), ("Asia/Calcutta", "Asia/Kolkata")])
def test_an_alias_is_kept_as_said_and_means_its_zone(alias: str, zone: str) -> None:
    said = resolve("2026-06-01T10:00:00", alias, now=NOW)
    assert said.time_zone == alias
    assert said.instant == resolve("2026-06-01T10:00:00", zone, now=NOW).instant


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "Mars/Olympus",
        "Europe",
        "../UTC",
        "/etc/passwd",
        "UTC+2",
        "Factory",
        "localtime",
        "Europe/Paris\0",
        "x" * 999,
    ],
)
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidZone) as caught:
        resolve("2026-06-01T10:00:00", zone, now=NOW)
    assert (caught.value.reason, caught.value.field) == ("INVALID_ZONE", "time_zone")


@pytest.mark.parametrize(
    ("written", "zone"),
    [
        ("europe/paris", "Europe/Paris"),
        ("Europe / Paris", "Europe/Paris"),
        ("America/New York", "America/New_York"),
        ("america/port-au-prince", "America/Port-au-Prince"),
        ("America/S\u00e3o Paulo", "America/Sao_Paulo"),
        ("Paris", "Europe/Paris"),
        ("new york", "America/New_York"),
        ("TOKYO", "Asia/Tokyo"),
    ],
)
def test_a_zone_that_is_certainly_meant_is_suggested(written: str, zone: str) -> None:
    assert suggestion(written) == zone
    with pytest.raises(InvalidZone, match=rf"did you mean {zone}\?$"):
        resolve("2026-06-01T10:00:00", written, now=NOW)


@pytest.mark.parametrize(
    "written",
    [
        "CEST",
        "PST",
        "cst",
        "IST",
        "Z",
        "z",
        "GMT+2",
        "UTC+2",
        "+02:00",
        "GMT-05:30",
        "Europe/Frankfurt",
        "Europe/Pariss",
        "America/Paris",
        "Pari",
        "Mars",
        "",
        "Vincennes?",
    ],
)
def test_nothing_is_guessed(written: str) -> None:
    assert suggestion(written) is None
    with pytest.raises(InvalidZone) as caught:
        resolve("2026-06-01T10:00:00", written, now=NOW)
    assert "did you mean" not in caught.value.message
    assert "UTC" in caught.value.message or "Europe/Paris" in caught.value.message


@given(st.text(alphabet=st.sampled_from("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/+-0123 "), max_size=20))
def test_an_advice_is_the_same_name_in_other_letters_or_its_city(written: str) -> None:
    near = suggestion(written)
    if near is not None:
        assert near in zone_names()
        given_name, full = letters_of(written), letters_of(near)
        assert given_name in {full, full.rpartition("/")[2]}


@given(zones, st.sampled_from([str.upper, str.lower, str.title, lambda name: name.replace("_", " ")]))
def test_a_name_in_other_letters_never_leads_elsewhere(zone: str, spell: Callable[[str], str]) -> None:
    near = suggestion(spell(zone))
    assert near is None or letters_of(near) == letters_of(zone) or letters_of(near).endswith("/" + letters_of(zone))


def letters_of(name: str) -> str:
    return "/".join("_".join(re.split(r"[\s_-]+", part.strip())) for part in name.strip().casefold().split("/"))


@pytest.mark.parametrize(
    ("wall", "said"),
    [
        ("2026-02-30T10:00:00", "check the day of the month"),
        ("2026-06-01T25:00:00", "check the day of the month, the hour"),
        ("2026-06-01T10:00:00+02:00", "write 2026-06-01T10:00:00, and the place in time_zone"),
        ("2026-06-01T10:00Z", "write 2026-06-01T10:00, and the place in time_zone"),
        ("tomorrow", "write it as 2026-03-02T09:00:00$"),
    ],
)
def test_what_is_wrong_with_a_wall_time_is_said(wall: str, said: str) -> None:
    with pytest.raises(InvalidTime, match=said):
        resolve(wall, "Europe/Paris", now=NOW)


@pytest.mark.parametrize(
    "wall",
    [
        "",
        "tomorrow",
        "2026-06-01",
        "2026-06-01 10:00",
        "2026-06-01T10:00Z",
        "2026-06-01T10:00:00+02:00",
        "2026-13-01T10:00",
        "2026-02-29T10:00",
        "2026-06-01T24:00",
        "2026-06-30T23:59:60",
        "0000-01-01T00:00",
        "20260601T100000",
        "2026-W10-1",
        "\u0662\u0660\u0662\u0666-06-01T10:00",
        "2026-06-01T10:00:00.1234567",
        "2026-06-01T10:00\n",
    ],
)
def test_what_is_no_wall_time_is_refused(wall: str) -> None:
    with pytest.raises(InvalidTime):
        resolve(wall, "Europe/Paris", now=NOW)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_does_more_harm_than_a_refusal(wall: str, zone: str) -> None:
    with pytest.raises((InvalidTime, InvalidZone)):
        resolve(wall, zone, now=NOW)


@given(zones, st.datetimes())
def test_any_date_of_the_calendar_has_an_answer(zone: str, wall: datetime) -> None:
    try:
        instant = resolve(wall.isoformat(), zone, now=NOW).instant
    except (TimeInPast, TimeTooFar, NonexistentTime):
        return
    assert NOW <= instant <= latest(NOW)


def test_the_past_begins_a_microsecond_ago() -> None:
    assert resolve("2026-01-10T13:00:00", "Europe/Paris", now=NOW).instant == NOW
    with pytest.raises(TimeInPast) as caught:
        resolve("2026-01-10T12:59:59.999999", "Europe/Paris", now=NOW)
    assert caught.value.reason == "TIME_IN_PAST"


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2026-01-10T12:00:00", "2031-01-10T12:00:00"),
        ("2027-03-01T00:00:00", "2032-03-01T00:00:00"),
        ("2027-02-28T23:59:59", "2032-02-28T23:59:59"),
        ("2028-02-28T23:59:59", "2033-02-28T23:59:59"),
        ("2028-02-29T12:30:00.000001", "2033-02-28T12:30:00.000001"),
        ("2028-03-01T00:00:00", "2033-03-01T00:00:00"),
        ("2026-12-31T23:59:59.999999", "2031-12-31T23:59:59.999999"),
    ],
)
def test_a_time_beyond_five_calendar_years_is_refused(now: str, last: str) -> None:
    here = read(now).replace(tzinfo=UTC)
    assert resolve(last, "UTC", now=here).instant == read(last).replace(tzinfo=UTC) == latest(here)
    with pytest.raises(TimeTooFar, match="more than 5 years ahead"):
        resolve((read(last) + timedelta(microseconds=1)).isoformat(), "UTC", now=here)


@pytest.mark.parametrize(
    ("local_time", "error", "words"),
    [
        ("2031-01-10T13:00:00.000001", TimeTooFar, "is more than 5 years ahead"),
        ("9999-12-31T23:59:59", TimeTooFar, "is more than 5 years ahead"),
        ("2020-01-10T13:00:00", TimeInPast, "is in the past"),
        ("2026-01-10T12:00:00", TimeInPast, "is in the past"),
    ],
)
def test_a_time_that_is_refused_is_named_with_its_zone(local_time: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^{local_time} in Europe/Paris {words}; give "):
        resolve(local_time, "Europe/Paris", now=NOW)


def test_five_years_are_those_of_utc_wherever_the_post_leaves() -> None:
    assert resolve("2031-01-10T13:00:00", "Europe/Paris", now=NOW).instant == latest(NOW)
    with pytest.raises(TimeTooFar):
        resolve("2031-01-10T13:00:00.000001", "Europe/Paris", now=NOW)
    with pytest.raises(TimeTooFar):
        resolve("9999-12-31T23:59:59", "America/Los_Angeles", now=NOW)

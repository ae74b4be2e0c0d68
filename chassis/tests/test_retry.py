from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from regie_chassis.process.retry import GiveUp, Retry, RetryPolicy

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    base=st.timedeltas(timedelta(milliseconds=1), timedelta(minutes=1)),
    cap=st.timedeltas(timedelta(seconds=1), timedelta(hours=1)),
)


@given(policies, st.integers(1, 10_000))
def test_a_delay_is_between_half_and_the_whole_of_the_doubled_base_and_never_above_the_cap(
    policy: RetryPolicy, attempt: int
) -> None:
    full = min(policy.base * 2 ** min(attempt - 1, 40), policy.cap)
    assert full * 0.5 - timedelta.resolution <= policy.delay(attempt) <= full <= policy.cap


@given(policies, st.integers(1, 50))
def test_the_longest_delay_never_shrinks_with_the_attempts(policy: RetryPolicy, attempt: int) -> None:
    def ceiling(number: int) -> timedelta:
        return max(policy.delay(number) for _ in range(3)) * 2

    assert policy.delay(attempt) <= ceiling(attempt + 1)


@given(policies, st.integers(1, 200))
def test_it_retries_before_the_last_attempt_and_gives_up_from_then_on(policy: RetryPolicy, attempt: int) -> None:
    decision = policy.decide(attempt, ValueError("no"))
    assert isinstance(decision, GiveUp if attempt >= policy.max_attempts else Retry)


def test_giving_up_tells_the_error_and_stays_short() -> None:
    decision = RetryPolicy(max_attempts=1).decide(1, ValueError("x" * 10_000))
    assert isinstance(decision, GiveUp)
    assert decision.reason.startswith("ValueError: xxx")
    assert len(decision.reason) == 1000


def test_delays_are_spread_so_that_replicas_do_not_come_back_together() -> None:
    assert len({RetryPolicy().delay(3) for _ in range(50)}) > 10

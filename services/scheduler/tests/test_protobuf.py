"""The states in memory and those of the contract."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from regie.scheduler.v1 import posts_service_pb2 as pb
from regie_scheduler.posts.protobuf import CHANGE_CAUSES, POST_STATES, SEGMENT_STATES, VARIANT_STATES


@pytest.mark.parametrize(
    ("enum", "numbers"),
    [
        (pb.PostState, POST_STATES),
        (pb.VariantState, VARIANT_STATES),
        (pb.SegmentState, SEGMENT_STATES),
        (pb.ChangeCause, CHANGE_CAUSES),
    ],
)
def test_the_contract_has_no_other_state_than_the_scheduler(enum: EnumTypeWrapper, numbers: Mapping[str, int]) -> None:
    assert set(enum.values()) - {0} == set(numbers.values())

"""States of the scheduler's contract: the numbers of its enums by the states in memory."""

from __future__ import annotations

from regie.scheduler.v1 import posts_service_pb2 as pb

from regie_scheduler.posts.states import ChangeCause, PostState, SegmentState, VariantState

POST_STATES = {state: pb.PostState.Value(f"POST_STATE_{state.name}") for state in PostState}
VARIANT_STATES = {state: pb.VariantState.Value(f"VARIANT_STATE_{state.name}") for state in VariantState}
SEGMENT_STATES = {state: pb.SegmentState.Value(f"SEGMENT_STATE_{state.name}") for state in SegmentState}
CHANGE_CAUSES = {cause: pb.ChangeCause.Value(f"CHANGE_CAUSE_{cause.name}") for cause in ChangeCause}

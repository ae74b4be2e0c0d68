"""DeliveriesService: message → use case → message."""

from __future__ import annotations

from regie.ids.v1.prefixes import CHANNEL, DELIVERY, POST
from regie.publisher.events.v1.publisher_events_pb2 import FAILURE_KIND_UNSPECIFIED
from regie.publisher.v1 import deliveries_service_pb2 as pb
from regie.publisher.v1.deliveries_service_pb2_grpc import DeliveriesServiceServicer
from regie_chassis.boundary.ids import parse_id, show_id
from regie_chassis.boundary.rpc import Context, caller
from regie_chassis.boundary.timestamps import timestamp
from regie_chassis.data.database import Database

from regie_publisher.deliveries.delivery import Cause, State
from regie_publisher.deliveries.events import FAILURE_KINDS
from regie_publisher.deliveries.queries import Change, Delivery, SegmentState, list_deliveries
from regie_publisher.deliveries.resolution import Resolver
from regie_publisher.fairness.concurrency import ConcurrencyLimit, TooManyResolves

STATES = {state: pb.DeliveryState.Value(f"DELIVERY_STATE_{state.name}") for state in State}
SEGMENT_STATES = {
    state: pb.DeliverySegmentState.Value(f"DELIVERY_SEGMENT_STATE_{state.name}") for state in SegmentState
}
CAUSES = {cause: pb.DeliveryCause.Value(f"DELIVERY_CAUSE_{cause.name}") for cause in Cause}
RESOLVES_AT_ONCE = 10
"""Concurrent resolutions of a workspace: each may call the network, which may be slow."""


class DeliveriesServicer(DeliveriesServiceServicer):
    """Answers for the verified caller's workspace."""

    def __init__(self, database: Database, resolver: Resolver) -> None:
        self._database = database
        self._resolver = resolver
        self._resolves = ConcurrencyLimit(RESOLVES_AT_ONCE, TooManyResolves)

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: Context) -> pb.ListDeliveriesResponse:
        post_id = parse_id(POST, request.post_id, "post_id")
        async with self._database.reading() as session:
            page = await list_deliveries(
                session,
                workspace_id=caller().workspace_id,
                post_id=post_id,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        return pb.ListDeliveriesResponse(
            deliveries=[_delivery(delivery) for delivery in page.items], next_page_token=page.next_page_token
        )

    async def ResolveDelivery(self, request: pb.ResolveDeliveryRequest, context: Context) -> pb.ResolveDeliveryResponse:
        delivery_id = parse_id(DELIVERY, request.delivery_id, "delivery_id")
        with self._resolves.hold(caller().workspace_id):
            delivery = await self._resolver.resolve_delivery(
                workspace_id=caller().workspace_id,
                delivery_id=delivery_id,
                request_id=request.request_id,
                published=request.published,
                remote_url=request.remote_url,
            )
        return pb.ResolveDeliveryResponse(delivery=_delivery(delivery))


def _delivery(delivery: Delivery) -> pb.Delivery:
    return pb.Delivery(
        delivery_id=show_id(DELIVERY, delivery.id),
        post_id=show_id(POST, delivery.post_id),
        channel_id=show_id(CHANNEL, delivery.channel_id),
        revision=delivery.revision,
        state=STATES[delivery.state],
        remote_id=delivery.remote.id if delivery.remote else "",
        remote_url=delivery.remote.url if delivery.remote else "",
        failure_kind=FAILURE_KINDS[delivery.failure_kind] if delivery.failure_kind else FAILURE_KIND_UNSPECIFIED,
        network_message=delivery.network_message,
        changes=[_change(change) for change in delivery.changes],
        call_end_time=timestamp(delivery.call_end),
        quiet_end_time=timestamp(delivery.quiet_end),
        next_look_time=timestamp(delivery.next_lookup),
        detail=delivery.detail,
        segments=[
            pb.DeliverySegment(
                state=SEGMENT_STATES[segment.state],
                remote_id=segment.remote.id if segment.remote else "",
                remote_url=segment.remote.url if segment.remote else "",
            )
            for segment in delivery.segments
        ],
    )


def _change(change: Change) -> pb.DeliveryChange:
    return pb.DeliveryChange(
        time=timestamp(change.time),
        state=STATES[change.state],
        cause=CAUSES[change.cause],
        attempt=change.attempt_number,
        network_message=change.network_message,
        trace_id=change.trace_id,
        detail=change.detail,
        segments_out=change.segments_out,
    )

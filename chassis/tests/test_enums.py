"""Enums of contracts have public names."""

from __future__ import annotations

from regie.publisher.v1.deliveries_service_pb2 import DeliveryState
from regie_chassis.boundary.enums import names_of, numbers_of


def test_a_public_name_has_no_prefix_and_the_unspecified_value_none() -> None:
    names = names_of(DeliveryState.DESCRIPTOR)
    assert (names[DeliveryState.DELIVERY_STATE_UNSPECIFIED], names[DeliveryState.DELIVERY_STATE_PENDING]) == (
        "",
        "pending",
    )


def test_every_public_name_leads_back_to_its_number() -> None:
    numbers = numbers_of(DeliveryState.DESCRIPTOR)
    assert numbers["published"] == DeliveryState.DELIVERY_STATE_PUBLISHED
    assert {number: name for name, number in numbers.items()} == names_of(DeliveryState.DESCRIPTOR)

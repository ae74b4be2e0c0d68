"""The users of an installation's NATS server, for `make run` and for deploy/nats/nats.conf alike."""

from __future__ import annotations

from functools import cache

from regie_chassis.events.nats_access import STREAMS_USER, Permissions, service_permissions, streams_permissions

from regie_local.services import service_specs


@cache
def user_permissions() -> dict[str, Permissions]:
    """Returns the permissions of each user: the services, and the creator of their streams."""
    permissions = {name: service_permissions(name, reads=spec.reads) for name, spec in service_specs().items()}
    return permissions | {STREAMS_USER: streams_permissions(service_specs())}

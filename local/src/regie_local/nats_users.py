"""The users of an installation's NATS server, for `make run` and for deploy/nats/nats.conf alike."""

from __future__ import annotations

from regie_chassis.nats_access import STREAMS_USER, service_permissions, streams_permissions

# Whose events a service reads; a test compares this with the services' subscriptions.
READS = {
    "gateway": ("audience", "gateway", "publisher", "scheduler"),
    "scheduler": ("gateway", "publisher"),
    "publisher": ("scheduler",),
    "audience": ("publisher",),
    "metrics": ("publisher",),
}
PERMISSIONS = {service: service_permissions(service, reads=reads) for service, reads in READS.items()} | {
    STREAMS_USER: streams_permissions(READS)
}

"""The events of the contracts: their types, their subjects, and the scope that a key needs to receive each."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

import regie
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from regie.events.v1.options_pb2 import EventOptions, event


def options_of(kind: type[Message]) -> EventOptions:
    """Returns the options of an event. Raises TypeError for a message that does not travel on its own."""
    return _options_of(kind.DESCRIPTOR)


def aggregate_of(message: Message) -> str:
    """Returns the id of an event's subject, as it stands in the event."""
    aggregate: str = getattr(message, _options_of(message.DESCRIPTOR).about)
    return aggregate


@cache
def all_events() -> tuple[type[Message], ...]:
    """Returns every event of every service, by name."""
    files = sorted({path for root in regie.__path__ for path in Path(root).glob("*/events/v1/*_events_pb2.py")})
    modules = [import_module(f"regie.{path.parts[-4]}.events.v1.{path.stem}") for path in files]
    messages = [one for module in modules for one in module.DESCRIPTOR.message_types_by_name.values()]
    found = [GetMessageClass(one) for one in messages if one.GetOptions().HasExtension(event)]
    return tuple(sorted(found, key=lambda kind: kind.DESCRIPTOR.full_name))


@cache
def _options_of(descriptor: Descriptor) -> EventOptions:
    options = descriptor.GetOptions()
    if not options.HasExtension(event):
        raise TypeError(f"{descriptor.full_name} has no option (regie.events.v1.event), so it is no event")
    return options.Extensions[event]

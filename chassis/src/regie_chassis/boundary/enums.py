"""Enums of contracts by their public names: without the enum's prefix, in lower case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from google.protobuf.descriptor import EnumDescriptor


@cache
def names_of(enum: EnumDescriptor) -> Mapping[int, str]:
    """Returns the public names by number: POST_STATE_DRAFT of PostState is `draft`, the unspecified value is empty."""
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.number: value.name.removeprefix(prefix).lower() if value.number else "" for value in enum.values}


@cache
def numbers_of(enum: EnumDescriptor) -> Mapping[str, int]:
    """Returns the numbers by public name."""
    return {name: number for number, name in names_of(enum).items()}

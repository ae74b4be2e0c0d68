"""Colours named by code points (ITU-T H.273), as PNG, HEIF and AVIF do."""

from __future__ import annotations

from regie_publisher.media.images.profiles import BT2020_PRIMARIES, D65, P3_PRIMARIES, matrix_profile
from regie_publisher.media.images.refusals import Unreadable

_PRIMARIES = {9: BT2020_PRIMARIES, 12: P3_PRIMARIES}
"""Others are taken for sRGB's, as browsers do."""
_HDR = {16, 18}
"""PQ and HLG: their light has to be mapped to that of a screen, which is a matter of taste."""


def profile_of_code_points(primaries: int, transfer: int) -> bytes | None:
    """Returns the profile, None for sRGB. Raises Unreadable for HDR."""
    if transfer in _HDR:
        raise Unreadable("the picture is HDR, and networks show it wrong: export it as SDR, or as JPEG")
    if primaries not in _PRIMARIES:
        return None
    return matrix_profile(_PRIMARIES[primaries], D65, None)

"""Converts decoded pixels to the form that every network shows: upright, sRGB, eight bits a sample."""

from __future__ import annotations

from io import BytesIO
from itertools import product

from PIL import Image, ImageCms, ImageMath

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SAME = 3
"""Levels of 255. A profile that moves no colour by more is sRGB; the pixels then stay as they are."""


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turns and mirrors the picture by its EXIF orientation."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def eight_bits(image: Image.Image) -> Image.Image:
    """Scales samples of 16 bits; Pillow's own conversion would clip them, so that a gradient turns white."""
    if image.mode != "I" and not image.mode.startswith("I;16"):
        if image.mode == "RGB" and isinstance(image.info.get("transparency"), tuple):
            image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])
        return image
    wide = image.convert("I")
    grey = wide.point(lambda value: value * (1 / 257) + 0.5).convert("L")
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        opaque = ImageMath.lambda_eval(lambda given: given["convert"]((given["wide"] != clear) * 255, "L"), wide=wide)
        grey.putalpha(opaque)
    return grey


def with_alpha(image: Image.Image) -> Image.Image:
    """Returns the picture with its colours as samples and its transparency, if it has any, as a channel."""
    clear = image.has_transparency_data
    if image.mode == "L" and clear:
        return image.convert("LA")
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK") and not (image.mode == "RGB" and clear):
        return image
    if image.mode == "1":
        return image.convert("LA" if clear else "L")
    return image.convert("RGBA" if clear else "RGB")


def moves_colours(image: Image.Image, profile: bytes | None) -> bool:
    """Returns whether the picture's colours differ from its numbers in sRGB."""
    if profile is None or image.mode == "1":
        return False
    if image.mode == "CMYK":
        return _transform(profile, "CMYK") is not None
    if image.mode in ("L", "LA", "I") or image.mode.startswith("I;16"):
        ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    else:
        levels = range(0, 256, 17)
        grid = bytes(level for colour in product(levels, repeat=3) for level in colour)
        ramp = Image.frombytes("RGB", (len(grid) // 3, 1), grid)
    transform = _transform(profile, ramp.mode)
    if transform is None:
        return False
    moved = transform.apply(ramp).tobytes()
    return any(abs(after - before) > SAME for after, before in zip(moved, ramp.convert("RGB").tobytes(), strict=True))


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Returns the picture with the numbers that show its colours in sRGB; without a profile only CMYK changes."""
    if profile is not None:
        image = with_alpha(image)
    transform = _transform(profile, "L" if image.mode == "LA" else image.mode) if profile else None
    if transform is None:
        return image.convert("RGB") if image.mode == "CMYK" else image
    if image.mode == "LA":
        grey, alpha = image.split()
        shown = transform.apply(grey).convert("L")
        shown.putalpha(alpha)
        return shown
    shown = transform.apply(image)
    return shown.convert("L") if image.mode == "L" else shown


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Returns the transform from the profile to sRGB; None for a profile that is damaged or for other kinds of pixels.

    Such a profile is ignored, as in browsers.
    """
    try:
        given = ImageCms.ImageCmsProfile(BytesIO(profile))
        return ImageCms.ImageCmsTransform(
            given,
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGBA" if mode == "RGBA" else "RGB",
            intent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None

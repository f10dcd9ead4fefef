"""One picture: from encoded bytes, or from whatever a torch data set gives, to uint8 [height, width, channels]."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Only formats that Pillow decodes by itself: EPS, for one, would start an interpreter on bytes that nobody vetted.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")

# Modes of 8 bits a channel; the deeper ones ("I;16", "I", "F") have no agreed white, so no agreed conversion.
_CONVERTIBLE = ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr")
_MODES = {1: "L", 3: "RGB"}


class BadPicture(ValueError):
    """A picture that cannot be used; the message reads on after the picture's name."""


def decode(content: bytes, shape: tuple[int, int, int], convert: bool) -> np.ndarray:
    """The picture in a file's bytes, turned as its EXIF orientation says.

    shape    (height, width, channels) of the result; channels 1 or 3
    convert  whether other modes than grey (1 channel) or RGB (3) are converted or refused
    returns  uint8 [height, width, channels]
    raises   BadPicture
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            # Between one and two times the limit Pillow only warns.
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise BadPicture(f"has {image.width} x {image.height} pixels, more than {Image.MAX_IMAGE_PIXELS}")
            return to_array(ImageOps.exif_transpose(image), shape, convert)
    except BadPicture:
        raise
    except UnidentifiedImageError as error:
        raise BadPicture(f"is damaged or not a picture (known formats: {', '.join(FORMATS)})") from error
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly every type there is
        raise BadPicture(f"cannot be decoded: {error}") from error


def to_array(image: Image.Image, shape: tuple[int, int, int], convert: bool) -> np.ndarray:
    """A Pillow image in the wanted mode and size, as uint8 [height, width, channels]; raises BadPicture."""
    height, width, channels = shape
    return np.asarray(_fitted(_in_mode(image, _MODES[channels], convert), width, height)).reshape(shape)


def as_pillow(item: Any) -> Image.Image:
    """A data set's picture as a Pillow image.

    item    Pillow image; torch tensor [C, H, W]; array [H, W, C]; either also [H, W]; uint8, or floating in 0..1
    raises  BadPicture
    """
    if isinstance(item, Image.Image):
        return item
    array = _height_width_channels(item)
    if np.issubdtype(array.dtype, np.floating):
        # Written so that NaN fails too.
        if not (array.min(initial=0) >= 0 and array.max(initial=0) <= 1):
            raise BadPicture("has values outside 0..1: leave normalisation out of the data set's transform")
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise BadPicture(f"has type {array.dtype}, expected uint8 0..255 or floating 0..1")
    channels = array.shape[2] if array.ndim == 3 else 0
    if array.ndim != 3 or channels not in (1, 3, 4):
        raise BadPicture(f"has shape {array.shape}, expected [height, width, channels] with 1, 3 or 4 channels")
    return Image.fromarray(array[:, :, 0] if channels == 1 else array)


def _height_width_channels(item: Any) -> np.ndarray:
    if hasattr(item, "detach"):  # a torch tensor, without importing torch for those who have none
        array: np.ndarray = item.detach().cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    elif isinstance(item, np.ndarray):
        array = item
    else:
        raise BadPicture(f"is a {type(item).__name__}, expected a Pillow image, a tensor or an array")
    return array[:, :, None] if array.ndim == 2 else array


def _in_mode(image: Image.Image, mode: str, convert: bool) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode not in _CONVERTIBLE:
        raise BadPicture(f"has mode {image.mode}, expected 8 bits a channel")
    if not convert:
        raise BadPicture(f"has mode {image.mode}, expected {mode}: set data.convert=true to convert it")
    if "transparency" in image.info:  # by way of RGBA: straight to the mode, Pillow keeps a meaningless colour key
        image = image.convert("RGBA")
    return image.convert(mode)


def _fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """The largest centred part of the right proportions, resized (with antialias) to width x height.

    Crops before it resizes, at whole pixels: a very long picture is never blown up, and one whose shorter side
    already fits is not resampled.
    """
    scale = max(width / image.width, height / image.height)
    part_width = min(image.width, max(1, round(width / scale)))
    part_height = min(image.height, max(1, round(height / scale)))
    left, top = (image.width - part_width) // 2, (image.height - part_height) // 2
    part = image.crop((left, top, left + part_width, top + part_height))
    return part.resize((width, height), Image.Resampling.BILINEAR)

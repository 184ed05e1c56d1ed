from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hostile.case import Case
from tests.hostile.files import RGB, encoded, packed, png, saved, written
from tests.pictures import picture

RUN = "run --models bicubic --datasets ./set"


def image(name: str, make: Callable[[], object], said: str, code: int = 1) -> Case:
    return Case(f"image: {name}", make, RUN, code, said)


GREY16 = Image.fromarray(picture(40, 40, 1).astype(np.uint16) * 257)
NANS = Image.fromarray(np.full((40, 40), np.nan, np.float32))
FRAMES = {"save_all": True, "append_images": [RGB.rotate(90)]}
PIXELS = "more than 200,000,000 pixels"
PAGES = "several frames or pages: keep one"
CASES = [
    image("empty", lambda: written("x.png", b""), "x.png cannot be read"),
    image("truncated PNG", lambda: written("x.png", encoded("PNG")[:-900]), "truncated"),
    image("truncated JPEG", lambda: written("x.jpg", encoded("JPEG")[:-300]), "truncated"),
    image("text", lambda: written("x.png", b"<html>"), "cannot identify"),
    image("GIF by another name", lambda: written("x.png", encoded("GIF")), "cannot identify"),
    image(
        "PostScript, which Pillow hands to Ghostscript",
        lambda: written("x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n(sprung)"),
        "cannot identify",
    ),
    image("bomb of 50,000 x 50,000", lambda: written("x.png", png(50_000, 50_000)), PIXELS),
    image("bomb of 20,000 x 10,001", lambda: written("x.png", png(20_000, 10_001)), PIXELS),
    image("profile of 300 MB", lambda: written("x.png", png(iCCP=packed(3 * 10**8))), "too large"),
    image("text of 300 MB", lambda: written("x.png", png(zTXt=packed(3 * 10**8))), "too large"),
    image("animated PNG", lambda: saved("x.png", **FRAMES), PAGES),
    image("animated WebP", lambda: saved("x.webp", **FRAMES), PAGES),
    image("TIFF of two pages", lambda: saved("x.tif", **FRAMES), PAGES),
    image("16-bit grey", lambda: saved("x.png", GREY16), "more than 8 bits a channel"),
    image("16-bit colour", lambda: written("x.png", png(depth=16)), "more than 8 bits a channel"),
    image("NaN TIFF", lambda: saved("x.tif", NANS), "more than 8 bits a channel"),
    image("no columns", lambda: written("x.png", png(0, 40)), "cannot identify"),
    image("no pixels", lambda: written("x.ppm", b"P6 0 0 255\n"), "cannot identify"),
    image("one pixel", lambda: saved("x.png", RGB.crop((0, 0, 1, 1))), "needs at least 19"),
    image("name with an escape", lambda: saved("\x1b[2J.png"), r"'\x1b[2J.png' has a name that"),
    image("name not in UTF-8", lambda: saved("\udcff.png"), r"'\udcff.png' has a name that"),
    image(
        "link to nowhere",
        lambda: (Path("set").mkdir(), Path("set/x.png").symlink_to("gone")),
        "there are no images",
    ),
    image("folder named like one", lambda: Path("set/x.png").mkdir(parents=True), "no images"),
    image("JPEG by another name", lambda: written("x.png", encoded("JPEG")), "1 image", 0),
    image("CMYK", lambda: saved("x.jpg", RGB.convert("CMYK")), "CMYK read as RGB", 0),
    image(
        "palette with transparency",
        lambda: saved("x.png", RGB.convert("P"), transparency=bytes(range(256))),
        "palette read as RGB, transparency dropped",
        0,
    ),
    image("alpha", lambda: saved("x.png", RGB.convert("RGBA")), "alpha dropped", 0),
    image("profile of noise", lambda: saved("x.jpg", icc_profile=b"?" * 300_000), "1 image", 0),
    image("broken profile", lambda: written("x.png", png(iCCP=b"x\0\0?")), "1 image", 0),
]

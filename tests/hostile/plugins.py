from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.hostile.case import Case, nothing

PLUGIN = """
import os, time, torch
from harness.registry import register_dataset, register_model
from torch import nn

class Net(nn.Module):
    def forward(self, image):
        {forward}
        return image

@register_model({name}, pipeline="y", input="bicubic", scales={scales}, params={params}{more})
def build(scale=4):
    {build}
    return Net()

{last}
"""
FINE = {"forward": "", "name": "'p'", "scales": "(4,)", "params": "0", "more": "", "build": ""}


def plugin(name: str, words: str, code: int, said: str, /, **parts: str) -> Case:
    text = PLUGIN.format(**{**FINE, "last": "", **parts})
    make = partial(Path("p.py").write_text, text)
    return Case(f"plug-in: {name}", make, f"{words} --plugin p.py", code, said)


CHECK = "check-model p"
HANGS = "check-model p --time-limit 2"
USE = "run --models p --datasets ./good"
LIST = "list models"
SEVERAL = {"forward": "return {'aux': None, 'sr': image}", "params": "None"}
TRAINABLE = "net = Net(); net.gain = nn.Parameter(torch.ones(1)); return net"
RETURNS = "returned a dict (['aux'] NoneType, ['sr'] (1, 1,"
SR = "wrap it in a module that returns output['sr'], which has that shape"
CASES = [
    plugin(
        "raises when built",
        USE,
        1,
        "failed to build p (ValueError: no",
        build="raise ValueError('no')",
    ),
    plugin("raises at work", USE, 1, "failed: ValueError: no", forward="raise ValueError('no')"),
    plugin(
        "ends the process",
        f"{USE} --models bicubic,p",
        1,
        "failed: p on good (BI-x4/y) tried to end the process (SystemExit(0))",
        forward="raise SystemExit(0)",
    ),
    plugin("ends the process when built", USE, 1, "(SystemExit: 0)", build="raise SystemExit(0)"),
    plugin("complex numbers", USE, 1, "complex128 values", forward="return image + 0j"),
    plugin("another size", USE, 1, "fix the network", forward="return image[:, :, 1:]"),
    plugin("not a number", USE, 1, "not finite", forward="return image * float('nan')"),
    plugin("no tensor", USE, 1, "failed: ", forward="return None"),
    plugin("several outputs", USE, 1, SR, forward="return {'aux': None, 'sr': image}"),
    plugin("several outputs: checked", CHECK, 1, f"p {RETURNS}", **SEVERAL),
    plugin("several outputs: counted", "complexity p", 1, f"Error: p {RETURNS}", **SEVERAL),
    plugin("several outputs: timed", "complexity p --time", 1, SR, **SEVERAL),
    plugin(
        "several outputs: benched",
        "bench --models p --datasets ./good --rounds 1",
        1,
        f"Error: p {RETURNS}",
        forward="return {'aux': None, 'sr': image}",
    ),
    plugin(
        "several outputs: trained",
        "train p --train-data ./good --set val_images=0 --steps 1 --patch 8",
        1,
        SR,
        **SEVERAL,
        build=TRAINABLE,
    ),
    plugin("checked: raises", CHECK, 1, "breaks the contract", forward="raise ValueError('no')"),
    plugin("checked: another size", CHECK, 1, "fix the network", forward="return image[:, :, 1:]"),
    plugin("checked: hangs on import", HANGS, 1, "did not end within 2", last="time.sleep(999)"),
    plugin("checked: hangs when built", HANGS, 1, "did not end within 2", build="time.sleep(999)"),
    plugin(
        "checked: hangs at work",
        "check-model p --time-limit 8",
        1,
        "did not end within 8",
        forward="time.sleep(999)",
    ),
    plugin("checked: dies", CHECK, 1, "died with exit code 9", forward="os._exit(9)"),
    plugin("raises on import", LIST, 2, "loaded (ZeroDivisionError", last="1 / 0"),
    plugin("leaves on import", LIST, 2, "loaded (SystemExit: 5", last="raise SystemExit(5)"),
    plugin("raises what nobody catches", LIST, 2, "(BaseException", last="raise BaseException"),
    plugin("name that is a path", LIST, 2, "has an invalid name", name="'../p'"),
    plugin("name that is a number", LIST, 2, "has an invalid name", name="5"),
    plugin("name that is a folder", LIST, 2, "has an invalid name", name="'..'"),
    plugin("scale of nothing", LIST, 2, "has an invalid scales[0]", scales="(0,)"),
    plugin("scale that is a word", LIST, 2, "has an invalid scales[0]", scales="('4',)"),
    plugin("parameters below zero", LIST, 2, "has an invalid params", params="-1"),
    plugin("paper that is a number", LIST, 2, "has an invalid paper", more=", paper=5"),
    plugin("stand-in that is a number", LIST, 2, "has an invalid stand_in", more=", stand_in=5"),
    plugin(
        "pooling that is a word",
        LIST,
        2,
        "has an invalid global_pooling",
        more=", global_pooling='y'",
    ),
    plugin(
        "set that climbs out",
        LIST,
        2,
        "The test set '../x' of",
        last="register_dataset('../x', '.')",
    ),
    plugin(
        "set of a word's images",
        LIST,
        2,
        "has an invalid count",
        last="register_dataset('x', '.', count='3')",
    ),
    plugin(
        "paper that is not there",
        "list papers",
        0,
        "There is no paper file",
        last="from harness.registry import register_paper; register_paper('x', 'x.toml')",
    ),
    plugin(
        "paper called none",
        LIST,
        2,
        "A paper cannot be called 'none'",
        last="from harness.registry import register_paper; register_paper('none', 'x.toml')",
    ),
    Case(
        "plug-in: no Python",
        lambda: Path("p.py").write_bytes(b"\0\xff"),
        "list --plugin p.py",
        2,
        "cannot be loaded",
    ),
    Case("plug-in: a folder", nothing, "list --plugin ./good", 2, "is a folder, not a file"),
]

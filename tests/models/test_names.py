"""Names: what is written down of options."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from cerebridge.models.features import FoveatedTexture, UniformBlur
from cerebridge.models.names import describe, nearest

WIDTH = 1


class Plain:
    """Without a text of its own."""

    def __init__(self, width):
        self.width = width

    def change(self, x):
        return x * self.width


def layer(value):
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.fill_(value)
        net.bias.fill_(0)
    return net


def held(value):
    return lambda x: x * value


def default(value):
    return lambda x, by=value: x * by


def keyword(value):
    return lambda x, *, by=value: x * by


def within(value):
    first, second = (lambda x: [k * 1 for k in x]), (lambda x: [k * 2 for k in x])
    return first if value == 1 else second


def long(value):
    values = np.zeros(100_000)
    values[50_000] = value
    return lambda x: x + values


MAKERS = {
    "held": held,
    "default": default,
    "keyword": keyword,
    "inside": within,
    "array": long,
    "nested": lambda v: held(held(v)),
    "blur": lambda v: held(UniformBlur(v)),
    "blurs": lambda v: held([{"blur": UniformBlur(v)}]),
    "partial": lambda v: partial(max, v),
    "method": lambda v: Plain(v).change,
    "object": Plain,
    "network": lambda v: held(layer(v)),
    "encoder": lambda v: FoveatedTexture(encoder=layer(v), decoder=layer(1)),
    "tensor": lambda v: held(torch.full((3000,), float(v))),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_what_functions_hold_tells_them_apart(make):
    assert describe(make(1)) == describe(make(1))
    assert describe(make(1)) != describe(make(2))
    assert "0x" not in describe(make(1))


def test_globals_of_functions_belong_to_them(monkeypatch):
    def widen(x):
        return x * WIDTH

    before = describe(widen)
    monkeypatch.setitem(globals(), "WIDTH", 2)
    assert describe(widen) != before


def test_functions_that_hold_themselves_end():
    def countdown(x):
        return countdown(x - 1) if x else 0

    empty = lambda: late  # noqa: E731
    assert describe(countdown) == describe(countdown) and describe(empty) == describe(empty)
    late = 1
    assert describe(empty) != describe(countdown) and late


def test_a_description_holds_in_another_process():
    code = (
        "from cerebridge.models.names import describe; from cerebridge.models.features import UniformBlur; "
        "print(describe(lambda x, f=UniformBlur(2.0), k={'a', 'b', 'c'}: [f(y) for y in x if y in {'p', 'q', 'r'}]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_networks_read_as_their_structure():
    assert describe(nn.ReLU()) == "ReLU()"
    assert describe(layer(1)).startswith("Linear(in_features=2")


def test_nearest_names():
    assert nearest("conv11", ["conv1", "readout"]) == "the nearest are 'conv1'"
    assert nearest("x", ["conv1", "readout"]) == "there are 'conv1', 'readout'"

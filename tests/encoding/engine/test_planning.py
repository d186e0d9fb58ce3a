"""Plans: the cheaper way, blocks that keep to the memory, and text for people."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cerebridge.encoding.engine.planning import Problem, make_plan, measure_speed

CPU = torch.device("cpu")
TALL = Problem(samples=3000, features=100, targets=5000, alphas=20, splits=5, held_out=600)


@pytest.mark.parametrize(
    ("sizes", "complementary", "path"),
    [((3000, 100), True, "primal"), ((300, 5000), True, "dual"), ((300, 5000), False, "rotated")],
)
def test_the_cheaper_way(sizes, complementary, path):
    problem = dataclasses.replace(
        TALL, samples=sizes[0], features=sizes[1], held_out=sizes[0] // 5, complementary=complementary
    )
    plan = make_plan(problem, CPU)
    assert plan.path == path
    others = {"primal", "dual" if complementary else "rotated"} - {path}
    assert all(problem.operations(other) > plan.operations for other in others)


def test_memory_cuts_targets_into_blocks():
    fixed, each = TALL.fixed_bytes("primal"), TALL.bytes_per_target("primal")
    plan = make_plan(TALL, CPU, memory=fixed + 10 * each)
    assert plan.targets_at_once == 10
    assert plan.bytes <= fixed + 10 * each
    assert make_plan(TALL, CPU).targets_at_once > 10
    assert make_plan(dataclasses.replace(TALL, targets=3), CPU).targets_at_once == 3


def test_too_little_memory():
    with pytest.raises(ValueError, match=r"memory=1000 is too little: this fit needs \d+ bytes"):
        make_plan(TALL, CPU, memory=1000)


def test_single_precision_takes_less_memory():
    single = dataclasses.replace(TALL, itemsize=4)
    assert single.bytes_per_target("primal") * 2 == TALL.bytes_per_target("primal")


def test_seconds_and_text():
    plan = make_plan(TALL, CPU, operations_per_second=measure_speed(CPU, torch.float64))
    assert plan.seconds > 0
    text = str(plan)
    assert "primal, because the dual way takes" in text
    assert "3000 samples × 100 features, 5000 targets" in text
    assert " s; " in text


@pytest.mark.parametrize(
    ("sizes", "path", "seconds"),
    [
        ((4000, 400, 2000, 10, 5), "primal", 1.03),
        ((3000, 1000, 5000, 20, 5), "primal", 14.3),
        ((1000, 8000, 3000, 10, 5), "dual", 3.1),
        ((4000, 100, 2000, 10, 5), "primal", 0.22),
        ((1000, 3000, 200, 10, 5), "dual", 0.68),
    ],
)
def test_expected_seconds_are_those_measured_at_sixty_billion_operations_a_second(sizes, path, seconds):
    samples, features, targets, alphas, splits = sizes
    problem = Problem(samples, features, targets, alphas, splits, samples // splits)
    plan = make_plan(problem, CPU, operations_per_second=6e10)
    assert plan.path == path
    assert seconds / 2 < plan.seconds < seconds * 2


def test_data_on_disk_are_read_and_not_kept():
    on_disk = dataclasses.replace(TALL, samples=10**7, held_out=2 * 10**6, streamed=True)
    in_memory = dataclasses.replace(on_disk, streamed=False)
    assert on_disk.fixed_bytes("primal") < 10**9 < in_memory.fixed_bytes("primal")
    assert on_disk.bytes_per_target("primal") < in_memory.bytes_per_target("primal") / 100
    seconds = [make_plan(p, CPU, 10**11, operations_per_second=6e10).seconds for p in (on_disk, in_memory)]
    assert seconds[0] > seconds[1]
    with pytest.raises(ValueError, match="memory=10000000 is too little"):
        make_plan(on_disk, CPU, 10**7)


def test_closed_forms_and_what_is_taken_already():
    for path in ("loo", "gcv"):
        plan = make_plan(TALL, CPU, path=path)
        assert (plan.path, plan.reason) == (path, "nothing else gives these scores")
        assert plan.bytes + 1000 == make_plan(TALL, CPU, path=path, taken=1000).bytes
    assert TALL.operations("gcv") < TALL.operations("loo")

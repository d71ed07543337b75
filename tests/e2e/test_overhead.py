"""What Ryzen costs a step is measured beside the same step without it, and no collective is among it."""

import asyncio

import pytest

from ryzen_lab.bench import overhead


@pytest.mark.parametrize(("model", "buckets"), [("demo", 1), pytest.param("larger", 2, marks=pytest.mark.long)])
def test_a_step_with_everything_has_the_collectives_of_a_plain_one_and_its_cost_is_told(
    model: str, buckets: int
) -> None:
    """A collective for each bucket of gradients, and no other."""
    models = asyncio.run(overhead.measure(1, [model], blocks=2, steps=2))
    launches = models[model]
    assert overhead.collectives(launches, "with") == overhead.collectives(launches, "without") == [buckets]
    text = overhead.table(models, "ryzen-lab bench overhead")
    assert f"| {model} | processor time, a rank |" in text
    assert all(pair for rank in launches[0].ranks for pair in rank["replays"]), "each step under suspicion is replayed"

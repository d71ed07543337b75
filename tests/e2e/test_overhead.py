"""What Ryzen costs a step is measured beside the same step without it, and no collective is among it."""

import asyncio

from ryzen_lab.bench import overhead


def test_a_step_with_everything_has_the_collectives_of_a_plain_one_and_its_cost_is_told() -> None:
    launches = asyncio.run(overhead.measure(1, blocks=2, steps=2))
    assert overhead.collectives(launches, "with") == overhead.collectives(launches, "without") == [1]
    text = overhead.table(launches, "ryzen-lab bench overhead")
    assert "| processor time, a rank |" in text
    assert all(pair for rank in launches[0].ranks for pair in rank["replays"]), "each step under suspicion is replayed"

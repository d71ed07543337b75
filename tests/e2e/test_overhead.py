"""What Ryzen costs a step is measured beside the same step without it, and no collective is among it."""

import asyncio

from ryzen_lab.bench import overhead


def test_a_step_with_everything_has_the_collectives_of_a_plain_one_and_its_cost_is_told() -> None:
    models = asyncio.run(overhead.measure(1, blocks=2, steps=2))
    for launches in models.values():
        assert overhead.collectives(launches, "with") == overhead.collectives(launches, "without")
        replays = [pair for each in launches for rank in each.ranks for pair in rank["replays"]]
        assert all(replays), "each step under suspicion is replayed"
    text = overhead.table(models, "ryzen-lab bench overhead")
    assert text.count("| processor time, a rank |") == len(models) == 2

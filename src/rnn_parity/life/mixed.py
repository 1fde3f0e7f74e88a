"""Points of a life: everything in turn, in an order that nobody chose."""

from __future__ import annotations

import random
from collections.abc import Iterator

from rnn_parity.layers.parameters import copy_weights
from rnn_parity.life.course import Life, without_states
from rnn_parity.life.judging import Found
from rnn_parity.life.points import point

CALLS = 24


@point("Calls in random order")
def random_course(life: Life) -> Iterator[Found]:
    """One module through calls whose mode, shape, states and weights are drawn, and which of its parameters learn; the
    same draws for every layer.
    """
    steps, rows = life.case.sequence_length, life.case.batch_size
    draw = random.Random(life.seed)
    weights_of, module, told = 0, life.build(life.draw()), list[str]()
    for call in range(CALLS):
        if draw.random() < 0.3:
            weights_of = 100 + call
            copy_weights(life.draw(weights_of).stimulus.weights, module)
            told.append("new weights")
        mode, learning = draw.choice(life.modes), draw.choice((None, ()))
        frozen = mode != "inference" and draw.random() < 0.5
        for parameter in module.parameters():
            parameter.requires_grad_(not (frozen and draw.random() < 0.5))
        length, batch = draw.choice((1, 2, steps, steps + 3, 10, 12)), draw.choice((1, rows, rows + 3, 10))
        given = life.draw(call, weights_of, sequence_length=length, batch_size=batch)
        if draw.random() < 0.25:
            given = given.change(without_states)
        told.append(f"{mode} at T {length}, B {batch}{', with some parameters frozen' if frozen else ''}")
        when = f"at call {call + 1} of one module ({', then '.join(told[-3:])})"
        yield life.judge(module, given, mode, when, seed=call, learning=learning)

"""Experts or n-gram memory, on Python source code: a dense model, experts, memory, both in four proportions, and the
same tables without a gate.

All sparse models have as many parameters, within 1%: the inactive ones of 32 experts, of which a share goes to tables
instead (see `everlong plan --allocate`). All have one feed-forward size, so that experts are equally large everywhere.
All models, the dense one too, take as many FLOPs a byte, within 3%: routers and the memory's projections come on top,
which is why rows are narrow. Sized for two CPU cores.
"""

from typing import Any

from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.lab.allocation import allocate
from everlong.train import WSD, DataConfig, Muon, Trainer

SHAPE = {"layers": 3, "width": 96, "heads": 3, "hidden": 256}
EXPERTS, USED, SHARED, DENSE = 32, 3, 1, 1  # one layer of three is dense
EXPERT = 3 * 96 * 64  # parameters of an expert: a quarter of the feed-forward
INACTIVE = (EXPERTS - USED) * EXPERT * (SHAPE["layers"] - DENSE)


def study() -> Study:
    return Study(
        name="engram",
        architectures=contenders(orders=(2, 3, 4, 5, 6), row_width=8, shares=(0.8, 0.6, 0.4, 0.2)),
        matching=(EqualFlops(tolerance=0.03),),
        budget=TrainingBytes(bytes=600_000),
        learning_rates=(0.01, 0.03),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=256,
            batch=16,
            optimizer=Muon.Config(),
            schedule=WSD(decay=0.5),
            evaluate_every=None,
            checkpoint_every=100,
            keep=1,
        ),
        data=DataConfig(validation_fraction=0.1),
        held_out=HeldOut(bytes=200_000),
        at_once=2,
    )


def contenders(orders: tuple[int, ...], row_width: int, shares: tuple[float, ...]) -> tuple[Architecture, ...]:
    """The models, with n-grams of some orders, and both experts and tables at some shares of experts."""
    width = len(orders) * row_width
    tables = {"orders": orders, "row_width": row_width}
    memory = {**SHAPE, **tables, "rows": split(0.0, width)["rows"]}
    experts = {**SHAPE, "active": USED, "shared": SHARED, "dense": DENSE}
    return (
        Architecture(name="dense", preset="transformer:nano", overrides=SHAPE),
        Architecture(name="experts", preset="moe:nano", overrides={**experts, "experts": EXPERTS}),
        *(
            Architecture(
                name=f"experts_{100 * share:.0f}",
                preset="engram-moe:nano",
                overrides={**tables, **experts, **split(share, width)},
            )
            for share in shares
        ),
        Architecture(name="memory", preset="engram:nano", overrides=memory),
        Architecture(name="no_gate", preset="over-encoding:nano", overrides=memory),
    )


def split(share: float, memory_width: int) -> dict[str, Any]:
    """How many experts, and how many rows a head, with a share of the inactive parameters in experts."""
    active = 1.0  # only differences of parameters are split here
    found = allocate(
        share,
        total=active + INACTIVE,
        active=active,
        experts=EXPERTS,
        used=USED,
        memory_layers=1,
        memory_width=memory_width,
    )
    return {"experts": found.experts, "rows": found.rows}

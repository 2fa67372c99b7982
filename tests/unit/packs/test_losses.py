"""Members that are alike have their losses computed together, and each its own."""

import pytest
import torch
from tiny import tiny_backbone, toy_task

from pipelines.config import TrainConfig
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training
from pipelines.tasks.kind import kind_of


@pytest.mark.parametrize(("kind", "outputs"), [("classification", 3), ("regression", 1)])
def test_losses_of_several_models_are_those_of_each_alone(kind, outputs):
    rules, generator = kind_of(kind), torch.Generator().manual_seed(0)
    found = torch.randn(4, 7, outputs, generator=generator, requires_grad=True)
    targets = torch.randint(0, 3, (4, 7), generator=generator)
    targets = targets if kind == "classification" else targets.float()
    alone = torch.stack([rules.loss(*own) for own in zip(found, targets, strict=True)])
    (expected,) = torch.autograd.grad(alone.sum(), found)
    together = rules.losses(found, targets)
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.allclose(torch.autograd.grad(together.sum(), found)[0], expected, atol=1e-7)


def test_a_kind_that_says_nothing_of_several_models_has_each_alone():
    class Outside(type(kind_of("regression"))):
        losses = kind_of("span").losses.__func__

    found, targets = torch.randn(3, 5, 1), torch.randn(3, 5)
    own = Outside()
    assert torch.equal(own.losses(found, targets)[1], own.loss(found[1], targets[1]))


def test_each_member_has_the_loss_that_it_has_alone():
    """Two alike, one with fewer rows in a batch, one of another kind."""
    backbone = tiny_backbone()
    tasks = [toy_task(rows=16, validation_rows=4)] * 3 + [toy_task("regression", rows=16, validation_rows=4)]
    configs = [
        TrainConfig(adapter_size=4, batch_size=size, epochs=1, dropout=0.0, seed=seed)
        for seed, size in enumerate((8, 8, 4, 8))
    ]

    def new_pack():
        return Pack(backbone, pooling="cls", precision="fp32")

    shared = new_pack()
    members = [Training(backbone, *own, pack=shared) for own in zip(tasks, configs, strict=True)]
    while not all(one.finished for one in members):
        shared.step()
    for one in members:
        (alone,) = Training(backbone, one.task, one.config, pack=new_pack()).run()
        assert one.epochs[0].train_loss == pytest.approx(alone.train_loss, rel=1e-5)
        assert one.epochs[0].validation_loss == pytest.approx(alone.validation_loss, rel=1e-4)

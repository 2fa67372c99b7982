"""Compiled layers: few graphs for a whole search, and the losses that plain layers give."""

import logging

import pytest
import torch
import torch._dynamo
from tiny import tiny_backbone, toy_task
from torch._dynamo.backends.common import aot_autograd

from pipelines.config import TrainConfig
from pipelines.packs.compiled import Compiler
from pipelines.packs.pack import Pack
from pipelines.packs.training import Training

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of itself while it traces
FLAT = ("bert", "distilbert", "electra", "modernbert", "roberta")
MOST_GRAPHS = 6  # layers and last layer, in training and in validation; ModernBERT has two kinds of attention


@pytest.fixture(autouse=True)
def _no_graphs_of_other_tests(monkeypatch):
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would keep every graph
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Graphs:
    """A backend that compiles nothing and counts what it was given."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph, _):
        self.count += 1
        return graph.forward


def config(seed, size=4, **changes):
    defaults = {"learning_rate": 1e-2, "epochs": 2, "batch_size": 8}
    return TrainConfig(method="adapter", adapter_size=size, seed=seed, **{**defaults, **changes})


def search(backbone, compiler):
    """Trials of two tasks that come and go: alone, in twos and threes; every trial's losses and scores."""
    tasks = [toy_task(rows=40, validation_rows=12), toy_task(rows=52, validation_rows=20, seed=1)]
    pack = Pack(backbone, pooling="cls", precision="fp32", compiler=compiler)
    trials = [Training(backbone, tasks[0], config(0), pack=pack)]
    for _ in range(3):
        pack.step()
    trials.append(Training(backbone, tasks[1], config(1, 8, batch_size=5), pack=pack))
    for _ in range(4):
        pack.step()
    trials.append(Training(backbone, tasks[0], config(2, 2, dropout=0.2), pack=pack))
    while not all(trial.finished for trial in trials):
        pack.step()
    return [[(epoch.train_loss, epoch.score) for epoch in trial.epochs] for trial in trials]


# Tracing takes some ten seconds a graph: one encoder in make test, the others in make faults.
@pytest.mark.parametrize(
    "model_type",
    [
        pytest.param(one, marks=pytest.mark.integration if one == "distilbert" else pytest.mark.faults)
        for one in FLAT
    ],
)
def test_a_whole_search_has_few_graphs_whatever_its_depth(model_type):
    layers = "n_layers" if model_type == "distilbert" else "num_hidden_layers"
    backbone = tiny_backbone(model_type, **{layers: 4})
    graphs = Graphs()
    compiled = search(backbone, Compiler(0, backend=graphs))
    assert 0 < graphs.count <= MOST_GRAPHS
    for own, plain in zip(compiled, search(backbone, None), strict=True):
        for (loss, score), (plain_loss, plain_score) in zip(own, plain, strict=True):
            assert loss == pytest.approx(plain_loss, rel=1e-5)
            assert score == plain_score


@pytest.mark.faults
def test_the_real_compiler_gives_the_plain_losses():
    backbone = tiny_backbone()
    for own, plain in zip(search(backbone, Compiler(0)), search(backbone, None), strict=True):
        assert [loss for loss, _ in own] == pytest.approx([loss for loss, _ in plain], rel=1e-5)


@pytest.mark.parametrize("model_type", ["albert", "mpnet"])
def test_an_encoder_without_a_flat_layout_is_not_compiled(model_type):
    graphs = Graphs()
    backbone = tiny_backbone(model_type)
    pack = Pack(backbone, pooling="cls", precision="fp32", compiler=Compiler(0, backend=graphs))
    Training(backbone, toy_task(rows=16, validation_rows=8), config(0), pack=pack)
    pack.step()
    assert graphs.count == 0


@pytest.mark.faults
def test_only_what_has_many_steps_left_is_compiled_until_something_is():
    backbone, graphs = tiny_backbone(), Graphs()
    pack = Pack(backbone, pooling="cls", precision="fp32", compiler=Compiler(20, backend=graphs))
    task = toy_task(rows=16, validation_rows=8)
    short = Training(backbone, task, config(0, epochs=5), pack=pack)  # 10 steps
    pack.step()
    assert graphs.count == 0
    pack.leave(short)
    long = Training(backbone, task, config(1, epochs=10), pack=pack)
    pack.step()
    assert graphs.count > 0
    before = graphs.count
    pack.leave(long)
    pack.join(short)
    while not short.finished:
        pack.step()
    assert graphs.count >= before
    assert pack.flat


@pytest.mark.parametrize(
    "when",
    [
        pytest.param("forward", marks=pytest.mark.integration),
        pytest.param("backward", marks=pytest.mark.faults),
    ],
)
def test_what_cannot_be_compiled_is_trained_plain(when, caplog):
    def fail(graph, inputs):
        if when == "forward":
            raise ValueError("no such kernel")
        return aot_autograd(fw_compiler=lambda own, _: own.forward, bw_compiler=_refuse)(graph, inputs)

    backbone = tiny_backbone()
    compiler = Compiler(0, backend=fail)
    assert search(backbone, compiler) == search(backbone, None)
    assert "no such kernel" in caplog.text
    assert not compiler.pays(10**9)


def _refuse(*_):
    raise ValueError("no such kernel")

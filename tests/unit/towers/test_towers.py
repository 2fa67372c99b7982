import numpy as np
import pytest
import torch
from embeddings import config, toy_data, toy_vectors, training
from tiny import D, tiny_backbone, vocabulary
from torch import nn

from pipelines.towers.adagrad import FIRST_SUM, Adagrad
from pipelines.towers.layers import (
    Masks,
    convolve,
    feed_forward,
    initial_towers,
    is_trained,
    join,
    tower_shapes,
)
from pipelines.towers.model import count_trained_embeddings

WORDS = len(vocabulary())


def towers(width=5, columns=1, outputs=2, **changes):
    made = config(**changes)
    return made, initial_towers(made, tower_shapes(made, width=width, columns=columns, outputs=outputs))


# How many parameters train


def count(columns=1, outputs=2, **changes):
    return count_trained_embeddings(
        tiny_backbone(),
        config(**changes),
        outputs=outputs,
        columns=columns,
        vectors={"glove": toy_vectors(width=7)},
    )


def test_without_hidden_layers_both_towers_are_linear():
    assert count(hidden_layers=0, outputs=3) == WORDS * 3 + D * 3 + 3


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("size", [8, 16])
def test_hidden_layers_are_counted_by_formula(layers, size):
    hidden = D * size + size + (layers - 1) * (size * size + size)
    head = size * 2 + 2
    assert count(hidden_layers=layers, hidden_size=size) == 2 * WORDS + hidden + head
    for norm in ("batch", "layer"):  # a scale and a shift; running statistics do not train
        normed = count(hidden_layers=layers, hidden_size=size, hidden_norm=norm)
        assert normed == 2 * WORDS + hidden + head + layers * 2 * size


@pytest.mark.parametrize("ngram", [1, 2, 3])
def test_a_convolution_is_counted_by_formula(ngram):
    filters = 4
    kernels = sum(size * D * filters + filters for size in range(1, ngram + 1))
    made = {"convolution": True, "convolution_ngram": ngram, "convolution_filters": filters}
    assert count(**made, hidden_layers=0) == 2 * WORDS + kernels + ngram * filters * 2 + 2
    normed = count(**made, hidden_layers=0, convolution_batch_norm=True)
    assert normed == count(**made, hidden_layers=0) + 2 * ngram * filters


def test_a_fine_tuned_table_is_counted_whole():
    assert count(fine_tune_embedding=True) == count() + WORDS * D
    assert count(embedding="glove", fine_tune_embedding=True) == count(embedding="glove") + 8 * 7


def test_pairs_have_four_vectors_and_a_wide_tower_for_each_column():
    assert count(columns=2, hidden_layers=0) == 2 * 2 * WORDS + 4 * D * 2 + 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"embedding": "sentence"},
        {"embedding": "glove", "fine_tune_embedding": True},
        {"convolution": True, "convolution_batch_norm": True, "hidden_layers": 2, "hidden_norm": "batch"},
    ],
)
@pytest.mark.parametrize("pairs", [False, True])
def test_what_is_counted_is_what_trains(changes, pairs):
    """Of tables, a state keeps the rows that the texts have; all others stay as they are."""
    run = training(changes, data=toy_data(pairs=pairs))
    own = sum(
        t.numel() for n, t in run.tensors.items() if is_trained(n) and not n.startswith(("wide", "emb"))
    )
    tables = 2 * WORDS * (2 if pairs else 1) + (8 * 8 if changes.get("fine_tune_embedding") else 0)
    assert run.trained_parameters == own + tables
    assert 0 < len(run.tensors["wide.weight"]) < WORDS


# What they compute


def test_a_convolution_is_torchs_on_each_text_alone():
    made, tensors = towers(convolution=True, convolution_ngram=3, convolution_activation="tanh")
    lengths = [4, 1, 6, 0]
    x = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    x *= (torch.arange(6) < torch.tensor(lengths)[:, None])[..., None]
    found = convolve(made, tensors, x, torch.tensor(lengths), None)
    for row, length in enumerate(lengths):
        expected = []
        for size in (1, 2, 3):
            layer = nn.Conv1d(5, 4, size)
            with torch.no_grad():
                layer.weight.copy_(tensors[f"convolution.{size}.weight"])
                layer.bias.copy_(tensors[f"convolution.{size}.bias"])
                text = torch.zeros(1, max(length, size), 5)  # a text shorter than the filter is filled up
                text[0, :length] = x[row, :length]
                expected.append(torch.tanh(layer(text.transpose(1, 2)).amax(2))[0])
        torch.testing.assert_close(found[row], torch.cat(expected))


def test_padding_changes_no_convolution():
    made, tensors = towers(convolution=True, convolution_ngram=2)
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    longer = torch.cat([x, torch.zeros(2, 4, 5)], dim=1)
    lengths = torch.tensor([3, 3])
    torch.testing.assert_close(
        convolve(made, tensors, x, lengths, None), convolve(made, tensors, longer, lengths, None)
    )


ACTIVATIONS = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "leaky_relu": nn.LeakyReLU(),
    "swish": nn.SiLU(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_the_deep_tower_is_what_torchs_modules_make(activation, norm):
    made, tensors = towers(hidden_layers=2, hidden_size=6, hidden_activation=activation, hidden_norm=norm)
    layers: list[nn.Module] = []
    for width in (5, 6):
        layers.append(nn.Linear(width, 6))
        layers += {"batch": [nn.BatchNorm1d(6)], "layer": [nn.LayerNorm(6)], "none": []}[norm]
        layers.append(ACTIVATIONS[activation])
    model = nn.Sequential(*layers, nn.Linear(6, 2))
    names = [name for name in tensors if is_trained(name)]
    for name, parameter in zip(names, model.parameters(), strict=True):
        parameter.data = tensors[name].clone()
    x = 4 * torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(feed_forward(made, tensors, x, Masks(0, 0)), model.train()(x))
    torch.testing.assert_close(feed_forward(made, tensors, x, None), model.eval()(x))  # running statistics


def test_a_pair_is_both_their_difference_and_their_product():
    u, v = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0])
    found = join(torch.stack([u, v])[None])
    assert found.tolist() == [[1, -2, 3, 4, 2, 6, 3, -8]]
    assert join(u[None, None]).tolist() == [[1, -2]]


def test_dropout_is_a_function_of_seed_and_step():
    x = torch.ones(200, 50)
    first = Masks(3, 7).drop(x, 0.4)
    assert torch.equal(first, Masks(3, 7).drop(x, 0.4))
    assert not torch.equal(first, Masks(3, 8).drop(x, 0.4))
    assert not torch.equal(first, Masks(4, 7).drop(x, 0.4))
    assert float((first == 0).float().mean()) == pytest.approx(0.4, abs=0.02)
    assert {round(value, 6) for value in first.unique().tolist()} == {0.0, round(1 / 0.6, 6)}


def test_dropout_is_used_where_the_configuration_has_it_and_in_training_alone():
    made, tensors = towers(hidden_layers=1, hidden_dropout=0.5)
    x = torch.ones(4, 5)
    assert not torch.equal(feed_forward(made, tensors, x, Masks(0, 1)), feed_forward(made, tensors, x, None))
    for key in ("embedding_dropout", "convolution_dropout"):
        made, tensors = towers(convolution=True, **{key: 0.5})
        text, lengths = torch.ones(3, 4, 5), torch.tensor([4, 4, 4])
        dropped = convolve(made, tensors, text, lengths, Masks(0, 1))
        assert not torch.equal(dropped, convolve(made, tensors, text, lengths, None))


# Adagrad


def test_adagrad_is_torchs_with_tensorflows_first_sum():
    ours = torch.tensor([1.0, -2.0, 3.0])
    theirs = nn.Parameter(ours.clone())
    optimizer = torch.optim.Adagrad([theirs], lr=0.1, initial_accumulator_value=FIRST_SUM, weight_decay=0.01)
    own = Adagrad({"w": ours})
    for step in range(5):
        theirs.grad = torch.tensor([0.5, 0.0, -float(step)])
        optimizer.step()
        own.step("w", theirs.grad, rate=0.1, penalty=0.01)
        torch.testing.assert_close(ours, theirs.detach())


def test_touching_the_rows_of_a_batch_alone_is_exact():
    dense, sparse = torch.ones(6, 3), torch.ones(6, 3)
    one, other = Adagrad({"w": dense}), Adagrad({"w": sparse})
    rng = np.random.default_rng(0)
    for _ in range(5):
        rows = torch.from_numpy(rng.choice(6, 2, replace=False))
        gradient = torch.zeros(6, 3)
        gradient[rows] = torch.from_numpy(rng.normal(size=(2, 3))).float()
        one.step("w", gradient, rate=0.3)
        other.step("w", gradient[rows], rate=0.3, rows=rows)
        torch.testing.assert_close(dense, sparse)
        torch.testing.assert_close(one.sums["w"], other.sums["w"])

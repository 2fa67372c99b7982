import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import clone_backbone, config, tiny_backbone, toy_task, training
from torch import nn

from pipelines.checkpoint import dump_state, load_state
from pipelines.encoder.batches import Batch, collate, evaluation_batches, training_batches
from pipelines.errors import TrialDiverged
from pipelines.metrics import score
from pipelines.packs.model import build_model
from pipelines.packs.prediction import predict
from pipelines.packs.training import Training, learning_rate_at
from pipelines.tasks.encoded import EncodedTask

CPU = torch.device("cpu")
AUTHORS_EPSILON = 1e-6  # google-research/adapter-bert, optimization.py


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def task():
    return toy_task(rows=24, validation_rows=12)


def timeless(epochs):
    """Epoch results without what the clock says."""
    return [dataclasses.replace(epoch, seconds=0.0, finished_at=0.0) for epoch in epochs]


def trained(run):
    return {name: p.detach().clone() for name, p in run.model.trained().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# The learning rate: §2.1's appendix, "linearly increased over the first 10% of the steps, then decayed to 0".


def rate_by_interpolation(step, total, peak):
    warmup = max(1, round(total / 10))
    rising = np.interp(step, [-1, warmup - 1], [0, peak])
    falling = np.interp(step, [warmup, total], [peak, 0])
    return min(rising, falling)


@given(st.integers(1, 3000), st.floats(1e-6, 1.0), st.data())
def test_the_rate_rises_for_a_tenth_of_the_steps_and_falls_to_zero(total, peak, data):
    step = data.draw(st.integers(0, total - 1))
    expected = rate_by_interpolation(step, total, peak)
    assert learning_rate_at(step, total, peak) == pytest.approx(expected, rel=1e-9)


def test_the_rate_of_a_hundred_steps():
    rates = [learning_rate_at(step, 100, 3e-4) for step in range(100)]
    assert rates[0] == pytest.approx(3e-5)
    assert rates[4] == pytest.approx(1.5e-4)
    assert rates[9] == max(rates) == pytest.approx(3e-4)
    assert rates[55] == pytest.approx(1.5e-4)
    assert rates[99] == pytest.approx(3e-4 / 90)
    assert learning_rate_at(100, 100, 3e-4) == 0


def test_every_step_is_taken_at_its_rate(backbone, task, monkeypatch):
    run = training(backbone, task, epochs=4)  # 3 steps an epoch
    used = []
    optimizer = run.pack.optimizer
    step = optimizer.step
    monkeypatch.setattr(optimizer, "step", lambda rates: (used.extend(rates), step(rates)))
    list(run.run())
    assert used == pytest.approx([rate_by_interpolation(index, 12, 1e-2) for index in range(12)])


# The optimizer.


def reference_epoch(backbone, task, run_config, make_optimizer):
    """One epoch written out with torch.optim and nothing of Training's, dropout 0."""
    reference = Training(backbone, task, run_config, precision="fp32").model.train()
    optimizer = make_optimizer(reference)
    batches = training_batches(task.train.lengths, run_config.batch_size, seed=run_config.seed, epoch=1)
    for step, indices in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate_by_interpolation(step, len(batches), run_config.learning_rate)
        [outputs] = reference(collate([(task.train, indices)], pad_id=0, device=CPU))
        log_probabilities = outputs.log_softmax(dim=1)
        targets = torch.from_numpy(task.train_targets[indices])
        reference.bank.gradients.zero_()
        (-log_probabilities[torch.arange(len(indices)), targets]).mean().backward()
        nn.utils.clip_grad_norm_(list(reference.bank.parameters.values()), 1.0)
        optimizer.step()
    return trained_of(reference)


def trained_of(model):
    return {name: p.detach().clone() for name, p in model.trained().items()}


def test_without_decay_an_epoch_is_that_of_plain_adam(backbone, task):
    run = training(backbone, task, epochs=1, dropout=0.0)
    expected = reference_epoch(
        backbone,
        task,
        run.config,
        lambda model: torch.optim.Adam(list(model.bank.parameters.values()), eps=AUTHORS_EPSILON),
    )
    list(run.run())
    for name, parameter in trained(run).items():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_decay_is_adamw_on_weights_and_none_on_biases_and_norms(backbone, task):
    def adamw(model):
        decayed = [p for p in model.bank.parameters.values() if p.dim() == 3]  # matrices, of one place
        rest = [p for p in model.bank.parameters.values() if p.dim() == 2]
        return torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.3}, {"params": rest, "weight_decay": 0.0}],
            eps=AUTHORS_EPSILON,
        )

    run = training(backbone, task, epochs=1, dropout=0.0, weight_decay=0.3)
    expected = reference_epoch(backbone, task, run.config, adamw)
    list(run.run())
    for name, parameter in trained(run).items():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_decay_shrinks_weights_and_leaves_biases_and_norms(backbone, task):
    """With no gradient at all, decay is the only thing that moves a parameter."""
    run = training(backbone, task, weight_decay=0.1)
    before = trained(run)
    run.pack.optimizer.step([0.5])
    for name, after in trained(run).items():
        shrunk = before[name].dim() == 2
        torch.testing.assert_close(after, before[name] * (0.95 if shrunk else 1.0))


def test_gradients_are_clipped_to_norm_one_over_all_parameters(backbone, task, monkeypatch):
    run = training(backbone, task, epochs=2)
    run.model.trained()["head.weight"].mul_(500)  # steep: the unclipped norm is far above 1
    norms = []
    optimizer = run.pack.optimizer
    step = optimizer.step

    def record(rates):
        before = optimizer.moments["exp_avg"].clone()
        step(rates)
        norms.append(float((optimizer.moments["exp_avg"] - 0.9 * before).norm()) / 0.1)  # what it was told

    monkeypatch.setattr(optimizer, "step", record)
    list(run.run())
    assert max(norms) <= 1.0 + 1e-4
    assert norms[0] == pytest.approx(1.0, abs=1e-3)


# What stays, what repeats.


def test_the_backbone_is_bit_identical_after_training():
    backbone = tiny_backbone()
    before = clone_backbone(backbone)
    run = Training(backbone, toy_task(rows=16, validation_rows=8), config(dropout=0.1, weight_decay=0.1))
    start = trained(run)
    list(run.run())
    for (name, now), then in zip(
        backbone.model.state_dict().items(), before.model.state_dict().values(), strict=True
    ):
        assert torch.equal(now, then), name
    assert not any(torch.equal(now, start[name]) for name, now in trained(run).items())


def test_the_same_seed_gives_the_same_training_and_another_another(backbone, task):
    runs = [training(backbone, task, seed=seed, dropout=0.2) for seed in (1, 1, 2)]
    results = []
    for run in runs:
        torch.manual_seed(len(results))  # what others do to torch's generator does not matter
        results.append(timeless(run.run()))
    assert results[0] == results[1]
    assert same(trained(runs[0]), trained(runs[1]))
    assert [r.train_loss for r in results[0]] != [r.train_loss for r in results[2]]
    assert not same(trained(runs[0]), trained(runs[2]))


def test_other_random_numbers_between_epochs_change_nothing(backbone, task):
    undisturbed = timeless(training(backbone, task, dropout=0.2).run())
    disturbed = []
    for result in training(backbone, task, dropout=0.2).run():
        disturbed.append(result)
        torch.rand(7)
        np.random.rand(7)
    assert timeless(disturbed) == undisturbed


@pytest.mark.integration
@pytest.mark.parametrize("dropout", [None, 0.0, 0.3])
@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_interrupted_and_resumed_is_as_never_interrupted(backbone, task, done, dropout):
    undisturbed = training(backbone, task, dropout=dropout, weight_decay=0.01)
    expected = timeless(undisturbed.run())

    first = training(backbone, task, dropout=dropout, weight_decay=0.01)
    epochs = first.run()
    for _ in range(done):
        next(epochs)
    data = dump_state(first.state())
    del first, epochs

    resumed = training(backbone, task, dropout=dropout, weight_decay=0.01)
    resumed.restore(load_state(data))
    assert timeless(resumed.epochs) == expected[:done]
    assert timeless(resumed.run()) == expected[done:]
    assert timeless(resumed.epochs) == expected
    assert resumed.finished
    assert same(resumed.best, undisturbed.best)
    if done < 3:
        assert same(trained(resumed), trained(undisturbed))


@pytest.mark.integration
def test_resumed_after_every_epoch_is_as_never_interrupted(backbone, task):
    undisturbed = training(backbone, task, epochs=4)
    expected = timeless(undisturbed.run())
    data = dump_state(training(backbone, task, epochs=4).state())
    for _ in range(4):
        run = training(backbone, task, epochs=4)
        run.restore(load_state(data))
        next(run.run())
        data = dump_state(run.state())
    assert timeless(load_state(data).epochs) == expected
    assert same(load_state(data).best, undisturbed.best)


def test_a_training_may_be_taken_back_to_an_earlier_state(backbone, task):
    run = training(backbone, task)
    epochs = run.run()
    next(epochs)
    state = run.state()
    first_time = timeless(epochs)
    run.restore(state)
    assert timeless(run.run()) == first_time


def test_a_state_does_not_change_as_training_goes_on(backbone, task):
    run = training(backbone, task)
    epochs = run.run()
    next(epochs)
    state = run.state()
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}
    list(epochs)
    assert same(dict(state.tensors), before)
    assert len(state.epochs) == 1


def test_a_state_of_another_configuration_is_refused(backbone, task):
    state = training(backbone, task, seed=1).state()
    with pytest.raises(ValueError, match=r"the checkpoint is of .*seed=1.*, not of .*seed=2"):
        training(backbone, task, seed=2).restore(state)


def test_a_finished_state_keeps_the_best_parameters_and_what_they_predict(backbone, task):
    run = training(backbone, task)
    list(run.run())
    state = run.state()
    assert {name.split(".")[0] for name in state.tensors} == {"best", "predicted"}
    assert state.best.keys() == run.model.trained().keys()


def test_the_best_parameters_are_those_of_the_best_epoch(backbone, monkeypatch):
    """Scores are made up: the second of four epochs is the best, the last one equals it."""
    task = toy_task(rows=16, validation_rows=8)
    run = training(backbone, task, epochs=4)
    made_up = iter([0.5, 0.8, 0.3, 0.8])
    monkeypatch.setattr(EncodedTask, "score", lambda *_: {"accuracy": next(made_up), "f1": 0.0})
    after = []
    for _ in run.run():
        after.append(trained(run))
    assert same(run.best, after[1])
    assert same(run.state().best, after[1])


def test_the_best_parameters_give_the_best_score_again(backbone):
    run = training(backbone, toy_task(rows=48, validation_rows=24), epochs=4, learning_rate=3e-2)
    list(run.run())
    run.model.load(run.best)
    outputs = predict(run.model, run.task.validation, pad_id=0, precision="fp32")
    again = score("accuracy", outputs.argmax(1), run.task.validation_targets)
    assert again == max(epoch.score for epoch in run.epochs)


# Divergence.


def test_an_absurd_learning_rate_is_a_divergence_that_names_step_and_configuration(backbone, task):
    run = training(backbone, task, learning_rate=1e30)
    with pytest.raises(
        TrialDiverged,
        match=r"^(loss (nan|inf) at step \d+ of 9|outputs .* after epoch 1) with .*learning_rate=1e\+30",
    ):
        list(run.run())
    assert run.epochs == []


def test_a_loss_that_is_not_finite_names_its_step(backbone):
    task = toy_task("regression", rows=24, validation_rows=8)
    run = training(backbone, task)
    run._targets[:] = float("nan")
    with pytest.raises(TrialDiverged) as caught:
        next(run.run())
    assert str(caught.value) == f"loss nan at step 1 of 9 with {run.config}"


def test_a_divergence_leaves_what_was_before_it(backbone, task):
    run = training(backbone, task)
    epochs = run.run()
    next(epochs)
    best = run.best
    run.model.trained()["head.weight"].fill_(float("inf"))
    with pytest.raises(TrialDiverged, match="step 4 of 9"):
        next(epochs)
    assert len(run.epochs) == 1
    assert run.best is best


# Numbers that come out.


def test_the_epochs_loss_is_the_mean_over_examples(backbone):
    """With a step of nothing the loss of every batch is that of the start; the last batch is smaller."""
    task = toy_task(rows=20, validation_rows=8)
    run = training(backbone, task, learning_rate=1e-30, dropout=0.0, epochs=1)
    outputs = predict(run.model, task.train, pad_id=0, precision="fp32")
    expected = nn.functional.cross_entropy(torch.from_numpy(outputs), torch.from_numpy(task.train_targets))
    [result] = run.run()
    assert result.train_loss == pytest.approx(expected.item(), rel=1e-5)


def test_the_validation_loss_is_the_mean_over_the_validation_set(backbone):
    task = toy_task(rows=20, validation_rows=9)
    run = training(backbone, task, learning_rate=1e-3, epochs=1)
    [result] = run.run()
    outputs = torch.from_numpy(predict(run.model, task.validation, pad_id=0, precision="fp32"))
    expected = nn.functional.cross_entropy(outputs, torch.from_numpy(task.validation_targets))
    assert result.validation_loss == pytest.approx(expected.item(), rel=1e-5)


def test_predictions_come_in_the_order_of_the_texts(backbone):
    task = toy_task(rows=150, validation_rows=8)
    model = training(backbone, task).model
    outputs = predict(model, task.train, pad_id=0, precision="fp32")
    assert len(evaluation_batches(task.train.lengths, 64)) == 3
    for index in (0, 17, 149):
        ids = task.train.ids[task.train.offsets[index] : task.train.offsets[index + 1]]
        alone = torch.from_numpy(ids.astype(np.int64))[None]
        with torch.no_grad():
            expected = model.eval()(Batch(alone, torch.ones_like(alone), None))[0][0].numpy()
        np.testing.assert_allclose(outputs[index], expected, rtol=1e-4, atol=1e-5)


def test_predicting_drops_nothing(backbone, task):
    model = training(backbone, task, dropout=0.5).model.train()
    first, second = (predict(model, task.validation, pad_id=0, precision="fp32") for _ in range(2))
    assert np.array_equal(first, second)


def test_seconds_are_of_training_alone(backbone, task, monkeypatch):
    run = training(backbone, task, epochs=1)
    clock = iter([100.0, 103.5])
    monkeypatch.setattr("pipelines.packs.training.time.perf_counter", lambda: next(clock))
    [result] = run.run()
    assert result.seconds == 3.5


def test_bf16_computes_products_in_it_and_keeps_parameters_in_fp32(backbone, task):
    run = Training(backbone, task, config(epochs=1), precision="bf16")
    list(run.run())
    assert run.model.bank.values.dtype == torch.float32
    frozen = {name: p.dtype for name, p in run.model.encoder.named_parameters() if not p.requires_grad}
    assert set(frozen.values()) == {torch.bfloat16}
    rough = predict(run.model, task.validation, pad_id=0, precision="bf16")
    whole = build_model(backbone, run.config, outputs=2, pooling="pooler")
    whole.load(run.best)
    exact = predict(whole, task.validation, pad_id=0, precision="fp32")
    assert not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.2)

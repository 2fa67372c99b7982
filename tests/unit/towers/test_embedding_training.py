import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from embeddings import config, encoded, toy_data, toy_vectors, training
from hypothesis import given
from hypothesis import strategies as st
from tiny import MAX_TOKENS, bundle_config, tiny_backbone, toy_spans

from pipelines.bundle import AdapterBundle, write_bundle
from pipelines.bundle_files import BundleConfig
from pipelines.checkpoint import dump_state, load_state
from pipelines.encoder.architectures import ARCHITECTURES
from pipelines.encoder.prefix import PrefixCache
from pipelines.encoder.sharing import share
from pipelines.epochs import predicted
from pipelines.errors import BundleError, InputError, TrialDiverged
from pipelines.methods import EMBEDDINGS
from pipelines.tasks.encoded import encode_task
from pipelines.tasks.labelled_rows import Examples
from pipelines.towers.config import PARTS, EmbeddingConfig
from pipelines.towers.model import predict_towers
from pipelines.towers.training import EmbeddingTraining

VARIANTS = [
    {},
    {"embedding": "sentence", "hidden_layers": 2, "hidden_norm": "layer", "hidden_dropout": 0.2},
    {"fine_tune_embedding": True},
    {
        "convolution": True,
        "convolution_batch_norm": True,
        "embedding_dropout": 0.2,
        "convolution_dropout": 0.2,
    },
    {"embedding": "glove", "hidden_norm": "batch", "wide_regularisation": 1e-3, "deep_regularisation": 1e-3},
    {"embedding": "glove", "convolution": True, "fine_tune_embedding": True},
]


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.integration
@pytest.mark.parametrize("changes", VARIANTS)
def test_towers_learn_what_words_tell(changes):
    results = list(training(changes).run())
    assert [result.epoch for result in results] == [*range(1, PARTS + 1)]
    assert max(result.score for result in results) >= 0.9
    assert results[-1].train_loss < results[0].train_loss


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("pairs", [False, True])
def test_towers_learn_of_texts_and_pairs_classes_and_numbers(kind, pairs):
    run = training({"training_samples": 1500}, data=toy_data(kind, pairs=pairs))
    assert max(result.score for result in run.run()) >= 0.9


@pytest.mark.parametrize(
    ("deep", "wide"), [({"deep_learning_rate": 1e-9}, "wide"), ({"wide_learning_rate": 1e-9}, "deep")]
)
def test_each_tower_learns_alone(deep, wide):
    assert max(result.score for result in training(deep).run()) >= 0.9, wide


@pytest.mark.integration
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("embedding", ["token_table", "sentence"])
def test_every_architecture_has_embeddings(architecture, embedding):
    run = training({"embedding": embedding}, backbone=tiny_backbone(architecture))
    assert max(result.score for result in run.run()) >= 0.9


def test_a_worker_that_holds_the_encoder_in_bf16_trains_the_same():
    backbone = tiny_backbone()
    shared = share(backbone, "bf16").open()
    runs = [training({"fine_tune_embedding": True}, backbone=one) for one in (backbone, shared)]
    assert torch.equal(runs[0].table, runs[1].table)


@pytest.mark.integration
def test_training_is_a_function_of_configuration_and_seed():
    changes = {"convolution": True, "convolution_dropout": 0.3, "hidden_dropout": 0.3}
    one, again, other = (training({**changes, "seed": seed}) for seed in (0, 0, 1))
    for run in (one, again, other):
        list(run.run())
    assert same(one.tensors, again.tensors)
    assert not same(one.tensors, other.tensors)


@pytest.mark.integration
@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("parts", [1, PARTS - 1])
def test_a_resumed_training_is_the_undisturbed_one(changes, parts):
    changes = {**changes, "hidden_dropout": 0.3}
    whole, first, second = (training(changes) for _ in range(3))
    expected = list(whole.run())
    run = first.run()
    for _ in range(parts):
        next(run)
    second.restore(load_state(dump_state(first.state())))
    list(second.run())
    assert [r.scores for r in second.epochs] == [r.scores for r in expected]
    assert [r.train_loss for r in second.epochs] == [r.train_loss for r in expected]
    assert same(second.tensors, whole.tensors)
    assert same(second.best, whole.best)


def test_a_state_does_not_change_while_training_goes_on():
    run = training({"fine_tune_embedding": True})
    steps = run.run()
    next(steps)
    state = run.state()
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}
    next(steps)
    assert same(dict(state.tensors), before)


def test_a_finished_training_keeps_its_best_part_and_what_it_predicts():
    run = training()
    list(run.run())
    state = run.state()
    assert {name.partition(".")[0] for name in state.tensors} == {"best", "predicted"}
    assert same(state.best, run.best)
    scores = run.task.score(predicted(state), run.task.validation_targets)
    assert scores[run.task.metric] == max(epoch.score for epoch in run.epochs)
    again = training()
    again.restore(state)
    assert again.finished
    assert same(again.state().tensors, state.tensors)
    assert list(again.run()) == []


def test_a_state_of_another_configuration_is_refused():
    with pytest.raises(ValueError, match="the checkpoint is of"):
        training({"seed": 1}).restore(training().state())


@given(rows=st.integers(2, 70), batch=st.integers(1, 40), samples=st.integers(1, 500))
def test_all_samples_are_seen_and_few_more(rows, batch, samples):
    run = EmbeddingTraining.__new__(EmbeddingTraining)
    run.config = config(batch_size=batch, training_samples=samples)
    run._train = type("Rows", (), {"lengths": np.ones(rows, dtype=np.int64), "__len__": lambda _: rows})()
    run._plan_steps()
    seen = sum(len(run._batch(step)) for step in range(run.total_steps))
    # The last step is a whole one, and every part has one.
    assert abs(seen - samples) < batch or run.total_steps == PARTS
    assert run._steps_until(0) == 0
    assert run._steps_until(PARTS) == run.total_steps
    assert all(run._steps_until(part) > run._steps_until(part - 1) for part in range(1, PARTS + 1))


def test_a_batch_norm_sees_two_texts_at_least():
    run = training({"hidden_norm": "batch", "batch_size": 59})
    assert {len(run._batch(step)) for step in range(20)} == {59, 2}
    alone = training({"hidden_norm": "batch", "batch_size": 1, "training_samples": 60})
    assert len(list(alone.run())) == PARTS


def test_every_pass_shows_each_example_once():
    run = training({"batch_size": 7})
    steps = run._steps_a_pass
    first = np.concatenate([run._batch(step) for step in range(steps)])
    second = np.concatenate([run._batch(step) for step in range(steps, 2 * steps)])
    assert sorted(first) == sorted(second) == [*range(60)]
    assert list(first) != list(second)


def test_a_frozen_table_stays_and_a_fine_tuned_one_moves_where_the_texts_are():
    run = training({"fine_tune_embedding": True})
    before = run.table.clone()
    frozen = training()
    table = frozen.table.clone()
    list(run.run())
    list(frozen.run())
    assert torch.equal(frozen.table, table)
    moved = (run.tensors["embedding.weight"] != before).any(1)
    assert moved.float().mean() > 0.9
    assert "embedding.weight" not in frozen.tensors


def test_regularisation_makes_weights_smaller():
    for tower, name in (("deep", "head.weight"), ("wide", "wide.weight")):
        runs = [training({f"{tower}_regularisation": weight, "hidden_layers": 0}) for weight in (0.0, 0.1)]
        for run in runs:
            list(run.run())
        free, pulled = (float(run.tensors[name].norm()) for run in runs)
        assert pulled < 0.9 * free, tower


def test_a_loss_that_is_not_finite_ends_the_trial():
    run = training()
    run.tensors["head.bias"][0] = torch.nan
    with pytest.raises(TrialDiverged, match="loss nan at step 1 of 60"):
        next(run.run())


@pytest.mark.parametrize("key", ["convolution", "fine_tune_embedding"])
def test_a_sentence_vector_has_no_sequence_and_no_table(key):
    with pytest.raises(InputError, match="is one frozen vector of a text") as caught:
        config(embedding="sentence", **{key: True})
    assert caught.value.key == key


def test_vectors_that_are_not_there_are_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="Did you mean 'glove'"):
        training({"embedding": "glov"})


@pytest.mark.parametrize(
    "changes",
    [{"hidden_layers": -1}, {"hidden_dropout": 1.0}, {"deep_learning_rate": 0}, {"hidden_norm": "group"}],
)
def test_a_configuration_refuses_what_is_out_of_range(changes):
    with pytest.raises(ValueError, match=f"out of range: {{'{next(iter(changes))}'"):
        config(**changes)


def test_span_tasks_are_refused():
    with pytest.raises(InputError, match="asks for spans") as caught:
        EMBEDDINGS.check_data(toy_spans())
    assert caught.value.fix == "Give span tasks a job of their own, without it."


def test_a_task_without_texts_is_refused():
    backbone = tiny_backbone()
    task = encode_task(toy_data(), backbone, MAX_TOKENS)
    with pytest.raises(InputError, match="has no texts"):
        EMBEDDINGS.make_training(backbone, task, config(), pooling="auto", precision="fp32", vectors={})


def test_only_readings_that_are_asked_for_are_encoded():
    backbone, data = tiny_backbone(), toy_data()
    task = EMBEDDINGS.prepare(
        encode_task(data, backbone, MAX_TOKENS), data, backbone, searched={}, vectors={}
    )
    assert task.texts is not None
    assert list(task.texts.train.tokens) == [(True, False)]


def test_sentence_vectors_are_what_the_encoder_says_and_are_kept(tmp_path):
    backbone, data = tiny_backbone(), toy_data(rows=12)
    task = encoded(data, backbone)
    cache = PrefixCache(tmp_path, 1.0)
    runs = [
        EmbeddingTraining(
            backbone,
            task,
            config(embedding="sentence"),
            pooling="mean",
            precision="fp32",
            vectors={},
            cache=one,
        )
        for one in (None, cache)
    ]
    assert len(list(tmp_path.glob("*.hidden"))) == 2  # of both sets
    found = runs[0]._train.vectors
    assert found is not None
    torch.testing.assert_close(found, runs[1]._train.vectors)
    for row, (text,) in enumerate(data.train.texts):
        ids = torch.tensor([backbone.tokenizer(text)["input_ids"]])
        expected = backbone.model(input_ids=ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(found[row, 0], expected, atol=1e-5, rtol=1e-4)


def test_averages_in_batches_are_those_computed_once(monkeypatch):
    once = list(training().run())
    monkeypatch.setattr("pipelines.towers.model.AVERAGES_BYTES", 0)
    run = training()
    assert run._train.vectors is None
    for one, other in zip(once, run.run(), strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)


# The end: held-out scores and the bundle


def export(folder, changes, data):
    backbone = tiny_backbone()
    vectors = {"glove": toy_vectors()}
    run = training(changes, data=data, backbone=backbone)
    list(run.run())
    made = BundleConfig(
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        task="toy",
        kind=data.task.kind,
        text_columns=data.task.text,
        labels=data.labels,
        pooling=backbone.pooling("auto"),
        max_tokens=MAX_TOKENS,
        train=run.config,
        target_mean=run.task.scale.mean,
        target_std=run.task.scale.std,
    )
    write_bundle(folder, made, EMBEDDINGS.bundle_tensors(run.config, run.best, vectors), metrics={}, card="")
    return backbone, run


@pytest.mark.integration
@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("pairs", [False, True])
def test_a_bundle_says_what_the_training_said_without_its_vectors(tmp_path, changes, pairs):
    data = toy_data(pairs=pairs)
    backbone, run = export(tmp_path / "bundle", changes, data)
    bundle = AdapterBundle.load(tmp_path / "bundle", backbone=backbone)
    expected = predict_towers(run.config, run.best, run._validation, _best_table(run))
    np.testing.assert_allclose(
        bundle.outputs(data.validation.texts, precision="fp32"), expected, rtol=1e-4, atol=1e-5
    )
    # Held-out texts take the same way as in the winner's end, and have words of their own.
    held_out = EMBEDDINGS.encode_held_out(data, backbone, MAX_TOKENS, run.config, {"glove": toy_vectors()})
    texts, labels = held_out["test"]
    outputs = EMBEDDINGS.open_trained(
        backbone,
        run.task,
        run.config,
        run.best,
        pooling="auto",
        precision="fp32",
        vectors={"glove": toy_vectors()},
    )(texts)
    rows = data.test.texts
    np.testing.assert_allclose(bundle.outputs(rows, precision="fp32"), outputs, rtol=1e-4, atol=1e-5)
    score = run.task.score(outputs, labels)["accuracy"]
    assert score >= 0.9
    labels_found = [one.label for one in bundle.predict(rows if pairs else [text for (text,) in rows])]
    assert np.mean(np.array(labels_found) == np.array(data.labels)[labels]) == score


def _best_table(run):
    return run.best.get("embedding.weight", run.table)


@pytest.mark.integration
def test_texts_of_nothing_known_are_predicted_too(tmp_path):
    for number, changes in enumerate(VARIANTS):
        backbone, _ = export(tmp_path / str(number), changes, toy_data())
        bundle = AdapterBundle.load(tmp_path / str(number), backbone=backbone)
        for found in bundle.predict(["", "東京 ½", "!!!"]):
            assert sum(found.scores.values()) == pytest.approx(1)


def test_a_regression_is_predicted_in_its_own_unit(tmp_path):
    data = toy_data("regression")
    backbone, _ = export(tmp_path / "bundle", {"training_samples": 3000}, data)
    bundle = AdapterBundle.load(tmp_path / "bundle", backbone=backbone)
    found = [float(one.label) for one in bundle.predict([text for (text,) in data.test.texts])]
    assert np.abs(np.array(found) - data.test.labels).mean() < 8


@pytest.mark.integration
@pytest.mark.parametrize("name", ["hidden.0.weight", "wide.weight", "vectors.table", "embedding.ids"])
def test_a_bundle_that_lacks_a_tensor_is_refused(tmp_path, name):
    changes = {"embedding": "glove", "fine_tune_embedding": True}
    backbone = tiny_backbone()
    run = training(changes, backbone=backbone)
    list(run.run())
    tensors = EMBEDDINGS.bundle_tensors(run.config, run.best, {"glove": toy_vectors()})
    del tensors[name]
    made = bundle_config(backbone, run.config)
    write_bundle(tmp_path / "bundle", made, tensors, metrics={}, card="")
    with pytest.raises(BundleError, match=r"does not fit its config\.json"):
        AdapterBundle.load(tmp_path / "bundle", backbone=backbone)


def test_a_bundle_has_no_encoder_to_ablate(tmp_path):
    backbone, _ = export(tmp_path / "bundle", {}, toy_data())
    bundle = AdapterBundle.load(tmp_path / "bundle", backbone=backbone)
    with pytest.raises(InputError, match="its method is embeddings"):
        _ = bundle.model


def test_a_configuration_survives_json():
    one = config(embedding="glove", seed=2**40)
    assert EmbeddingConfig(**json.loads(json.dumps(one.to_dict()))) == one
    assert replace(one, seed=1) != one


@pytest.mark.parametrize("name", ["train", "validation"])
def test_texts_without_a_token_are_refused_by_their_split(name):
    data = toy_data(rows=20)
    split = getattr(data, name)
    marks = Examples(texts=(("!!!",),) * len(split), labels=split.labels)
    with pytest.raises(InputError, match=f"no text of toy's {name} rows has a token left"):
        training({"strip_non_alphanumerics": True}, data=replace(data, **{name: marks}))
    training({"strip_non_alphanumerics": False}, data=replace(data, **{name: marks}))

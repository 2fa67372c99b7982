"""The table of methods: every row is whole, other tables name no method that it lacks, and it takes more."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from head_only import HEAD_ONLY, registered
from job_files import job
from tiny import MAX_TOKENS, bundle_config, tiny_backbone, toy_task

from pipelines.bundle import AdapterBundle, read_bundle, write_bundle
from pipelines.checkpoint import dump_state, load_state
from pipelines.config import TrainConfig
from pipelines.encoder.tokens import encode
from pipelines.errors import BundleError, CheckpointError, InputError
from pipelines.method import METHODS, adopt, config_from_dict, epochs_of, find_method, register
from pipelines.packs.trained import TrainsParts, trained_parts
from search.errors import JobError
from search.job.job import SearchJob, job_schema
from search.report.paper import METHODS as PAPER_METHODS
from spaces import PARAMETERS, presets
from spaces.presets import _PRESETS

IN_ENCODER = [name for name, method in METHODS.items() if isinstance(method, TrainsParts)]


@pytest.fixture
def head_only():
    with registered() as method:
        yield method


# Every method, wherever it is named


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_parameters_and_a_space_to_search_without_one_written(name):
    assert [name for legal in PARAMETERS.values() if not legal.methods or name in legal.methods]
    space = job(method=name).space_for(name)
    for parameter, _ in space.parameters:
        assert not PARAMETERS[parameter].methods or name in PARAMETERS[parameter].methods


@pytest.mark.parametrize("name", METHODS)
def test_a_default_configuration_survives_its_dictionary(name):
    made = METHODS[name].config({}, seed=3)
    assert made.method == name
    assert config_from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert METHODS[name].epochs({}) == made.epochs


@pytest.mark.parametrize("name", METHODS)
def test_sizeless_parameters_are_of_the_method_and_change_no_count(name):
    method, backbone = METHODS[name], tiny_backbone()
    config = method.config({}, seed=0)
    assert all(hasattr(config, parameter) for parameter in method.sizeless)
    count = method.count_trained(backbone, config, outputs=2, columns=1, vectors={})
    changed = {"batch_size": 7} if "batch_size" in method.sizeless else {"pooling": "cls"}
    other = replace(config, **changed)
    assert method.count_trained(backbone, other, outputs=2, columns=1, vectors={}) == count > 0


def test_tables_that_name_methods_name_none_that_is_not_there():
    elsewhere = {method for legal in PARAMETERS.values() for method in legal.methods}
    elsewhere |= {preset.method for preset in presets().values()} | {*PAPER_METHODS}
    assert elsewhere <= {*METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_size_is_a_parameter_of_its_own(name):
    size = METHODS[name].size
    assert size is None or (name in PARAMETERS[size].methods and size not in METHODS[name].sizeless)


@pytest.mark.parametrize("name", IN_ENCODER)
def test_a_row_says_whether_weights_of_the_encoder_itself_train(name):
    parts = trained_parts(tiny_backbone(), METHODS[name].config({}, seed=0))
    assert bool(parts.weights) == METHODS[name].whole_weights


@pytest.mark.parametrize("name", IN_ENCODER)
def test_an_insert_stands_at_a_module_of_the_encoder_and_has_a_name_of_its_own(name):
    backbone = tiny_backbone()
    inserts = trained_parts(backbone, METHODS[name].config({}, seed=0)).inserts
    assert len({insert.name for insert in inserts}) == len(inserts)
    assert {insert.path for insert in inserts} <= {path for path, _ in backbone.model.named_modules()}


# What the table refuses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "registered twice"),
        ({"name": "../x"}, "folders are called by it"),
        ({"name": "mine", "card": ""}, "has no card"),
        ({"name": "mine", "label": "", "legend": ""}, "has no label and no legend"),
        ({"name": "mine", "colour": "yellow"}, "is not #RRGGBB"),
        ({"name": "mine", "colour": METHODS["adapter"].colour, "marker": "o"}, "look alike"),
    ],
)
def test_a_row_that_is_not_whole_or_not_its_own_is_refused(head_only, changes, message):
    with pytest.raises(ValueError, match=message):
        register(replace(head_only, **changes))


def test_an_unknown_method_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'adapter'"):
        find_method("adaptor")
    with pytest.raises(InputError, match="trains nothing in an encoder"):
        trained_parts(tiny_backbone(), TrainConfig(method="embeddings"))
    assert epochs_of({"epochs": 3}, method="of a package that is not here") == 3


@pytest.mark.integration
def test_the_table_is_read_without_torch():
    code = "import sys, pipelines.methods, search.job.job; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# A method from elsewhere


def test_a_job_file_may_name_a_method_that_was_registered_elsewhere(head_only):
    made = job(method=["adapter", "head_only"])
    assert made.space_for("head_only").values("head_layer") == (0, 1)
    assert SearchJob.from_dict(made.to_dict()) == made
    written = job(method="head_only", space={"head_only": {"learning_rate": [1e-3]}})
    assert written.space_for("head_only").values("learning_rate") == (1e-3,)
    with pytest.raises(JobError, match="the method head_only has no such parameter"):
        job(method="head_only", space={"adapter_size": [8]})


def test_a_parameter_that_the_one_method_lacks_is_answered_with_those_that_it_has(head_only):
    with pytest.raises(JobError) as caught:
        job(method="head_only", space={"adapter_size": [8]})
    assert "It is for adapter. head_only has learning_rate, epochs, batch_size, dropout, head_layer." in str(
        caught.value
    )
    with pytest.raises(JobError) as caught:
        job(method=["adapter", "head_only"], space={"adapter_size": [8]})
    assert "Give each method its own space: space: {head_only: …}." in str(caught.value)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ({"method": "head_only"}, "space"),
        ({"method": ["adapter", "head_only"]}, "space"),
        ({"method": "head_only", "space": {"head_only": "default"}}, "space.head_only"),
    ],
)
def test_a_method_without_a_default_space_wants_one_written(head_only, monkeypatch, written, key):
    monkeypatch.delitem(_PRESETS, "default_head_only")
    with pytest.raises(JobError) as caught:
        job(**written)
    assert f"{key} = 'default': the method head_only has no default space. Write its space" in str(
        caught.value
    )
    assert "adapter_size" not in str(caught.value)


def test_the_schema_lists_the_methods_that_there_are(head_only):
    schema = json.dumps(job_schema())
    assert "head_only" in METHODS
    assert json.dumps([*METHODS]) in schema
    assert "default_head_only" in schema
    assert "head_layer" in schema


def test_a_method_is_known_no_more_when_it_is_gone():
    with pytest.raises(JobError, match="method = 'head_only': unknown value"):
        job(method="head_only")


def test_a_worker_adopts_the_rows_that_it_lacks(monkeypatch):
    monkeypatch.setattr("pipelines.method._METHODS", {"adapter": METHODS["adapter"]})
    adopt([METHODS["adapter"], HEAD_ONLY])
    assert find_method("head_only") is HEAD_ONLY


def test_a_method_from_elsewhere_trains_is_saved_goes_on_and_predicts(head_only, tmp_path):
    backbone, task = tiny_backbone(), toy_task()
    config = head_only.config({"learning_rate": 1e-2, "epochs": 6}, seed=1)
    arguments = {"pooling": "cls", "precision": "fp32", "vectors": {}}
    whole, first, second = (head_only.make_training(backbone, task, config, **arguments) for _ in range(3))
    list(whole.run())
    assert whole.epochs[-1].train_loss < whole.epochs[0].train_loss
    assert {name.split(".")[0] for name in whole.state().best} == {"head"}
    assert head_only.count_trained(backbone, config, outputs=2, columns=1, vectors={}) == 2 * 32 + 2

    run = first.run()
    next(run)
    second.restore(load_state(dump_state(first.state())))
    list(second.run())
    assert [epoch.scores for epoch in second.epochs] == [epoch.scores for epoch in whole.epochs]

    best = whole.state().best
    opened = head_only.open_trained(backbone, task, config, best, **arguments)
    texts = [("good great",), ("bad awful",)]
    expected = opened(encode(texts, backbone.tokenizer, MAX_TOKENS))
    write_bundle(tmp_path / "bundle", bundle_config(backbone, config), best, metrics={}, card="")
    bundle = AdapterBundle.load(tmp_path / "bundle", backbone=backbone)
    np.testing.assert_allclose(bundle.outputs(texts, precision="fp32"), expected, rtol=1e-5)
    assert len(bundle.predict(["good great", "bad awful"])) == 2


def test_what_a_missing_method_wrote_says_so(tmp_path):
    backbone = tiny_backbone()
    with registered() as method:
        config = method.config({}, seed=0)
        arguments = {"pooling": "cls", "precision": "fp32", "vectors": {}}
        training = method.make_training(backbone, toy_task(), config, **arguments)
        saved = dump_state(training.state())
        tensors = load_state(saved).tensors
        write_bundle(tmp_path / "bundle", bundle_config(backbone, config), tensors, metrics={}, card="")
    with pytest.raises(CheckpointError, match="unknown method"):
        load_state(saved)
    with pytest.raises(BundleError, match="Import the package that registers it"):
        read_bundle(tmp_path / "bundle")


def test_trials_of_a_method_from_elsewhere_share_a_pass(head_only):
    from pipelines.packs.pack import Pack
    from pipelines.packs.training import Training

    backbone, task = tiny_backbone(), toy_task(rows=24, validation_rows=8)
    configs = [head_only.config({"epochs": 2, "head_layer": layer}, seed=layer) for layer in (0, 1)]
    pack = Pack(backbone, pooling="cls", precision="fp32")
    packed = [Training(backbone, task, config, pack=pack) for config in configs]
    while not all(training.finished for training in packed):
        pack.step()
    for training, config in zip(packed, configs, strict=True):
        alone = Training(backbone, task, config, pooling="cls", precision="fp32")
        list(alone.run())
        for name, tensor in alone.best.items():
            torch.testing.assert_close(training.best[name], tensor, rtol=1e-4, atol=1e-5)

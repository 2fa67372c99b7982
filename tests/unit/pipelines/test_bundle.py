import hashlib
import json
import os
import pickle
import shutil
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tiny import MAX_TOKENS, save_tiny_encoder, toy_task

from pipelines.bundle import AdapterBundle, read_bundle, write_bundle
from pipelines.bundle_files import BundleConfig
from pipelines.config import TrainConfig
from pipelines.encoder.backbone import Backbone, load_backbone
from pipelines.encoder.tokens import encode
from pipelines.errors import BundleError, InputError
from pipelines.packs.prediction import predict
from pipelines.packs.training import Training
from pipelines.tasks.encoded import EncodedTask

TEXTS = ["my screen is good great lovely", "bad", "the worst awful printer today and very sad", "", "Good!"]
PAIRS = [("good day", "bad night"), ("the printer", "was fine"), ("a", "")]
FILES = ("adapter.safetensors", "config.json", "metrics.json")


@dataclass
class Exported:
    folder: Path
    backbone: Backbone
    task: EncodedTask
    run: Training

    def outputs(self, rows):
        """What the trained model itself says."""
        tokens = encode(rows, self.backbone.tokenizer, MAX_TOKENS)
        return predict(self.run.model, tokens, pad_id=0, precision="fp32")


def export(folder, encoder, kind, *, pairs=False):
    """Train on a toy task and write the parameters as they are at the end."""
    backbone = load_backbone(str(encoder))
    task = toy_task(kind, pairs=pairs, rows=24, validation_rows=12)
    train = TrainConfig(adapter_size=4, learning_rate=1e-2, epochs=1, batch_size=8)
    run = Training(backbone, task, train, precision="fp32")
    list(run.run())
    config = BundleConfig(
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        task=task.name,
        kind=kind,
        text_columns=("first", "second") if pairs else ("text",),
        labels=task.labels,
        pooling=run.model.pooling,
        max_tokens=MAX_TOKENS,
        train=train,
        target_mean=task.scale.mean,
        target_std=task.scale.std,
    )
    write_bundle(folder, config, run.best, metrics={"test": {"accuracy": 0.5}}, card="# Toy\nnaïve 東京\n")
    return Exported(folder, backbone, task, run)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def single(tmp_path_factory, encoder):
    return export(tmp_path_factory.mktemp("single") / "bundle", encoder, "classification")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, encoder):
    return export(tmp_path_factory.mktemp("pairs") / "bundle", encoder, "classification", pairs=True)


@pytest.fixture(scope="module")
def regression(tmp_path_factory, encoder):
    return export(tmp_path_factory.mktemp("regression") / "bundle", encoder, "regression")


@pytest.fixture
def folder(single, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(single.folder, tmp_path / "bundle")


def test_predictions_are_exactly_those_of_the_trained_model(single):
    bundle = AdapterBundle.load(single.folder)
    rows = [(text,) for text in TEXTS]
    expected = single.outputs(rows)
    assert np.array_equal(bundle.outputs(rows, precision="fp32"), expected)

    predictions = bundle.predict(TEXTS, precision="fp32")
    probabilities = torch.from_numpy(expected).softmax(dim=1).numpy()
    for prediction, text, scores in zip(predictions, TEXTS, probabilities, strict=True):
        assert prediction.text == text
        assert prediction.label == ("bad", "good")[scores.argmax()]
        assert list(prediction.scores) == ["bad", "good"]
        assert list(prediction.scores.values()) == pytest.approx(scores.tolist())


def test_predictions_for_pairs_are_exactly_those_of_the_trained_model(pairs):
    bundle = AdapterBundle.load(pairs.folder)
    assert np.array_equal(bundle.outputs(PAIRS, precision="fp32"), pairs.outputs(PAIRS))
    assert [prediction.text for prediction in bundle.predict(PAIRS)] == PAIRS


def test_a_regression_predicts_in_original_units(regression):
    """The toy's targets are 5,000 to 9,000; the head's outputs are standardised."""
    bundle = AdapterBundle.load(str(regression.folder))
    targets = regression.task.train_targets
    expected = regression.outputs([(text,) for text in TEXTS])[:, 0] * targets.std() + targets.mean()
    predictions = bundle.predict(TEXTS, precision="fp32")
    assert [prediction.label for prediction in predictions] == pytest.approx(expected.tolist())
    assert all(4000 < prediction.label < 10_000 for prediction in predictions)
    assert all(prediction.scores == {} for prediction in predictions)


def test_a_loaded_backbone_may_be_given(single):
    bundle = AdapterBundle.load(single.folder, backbone=single.backbone)
    assert bundle.backbone is single.backbone
    assert bundle.predict(TEXTS) == AdapterBundle.load(single.folder).predict(TEXTS)


def test_a_backbone_may_have_moved(single, encoder, tmp_path):
    moved = shutil.copytree(encoder, tmp_path / "elsewhere")
    assert AdapterBundle.load(single.folder, backbone=str(moved)).backbone.name == str(moved)


def test_two_bundles_share_one_backbone(single, pairs, regression):
    backbone = load_backbone(str(single.backbone.name))
    alone = AdapterBundle.load(single.folder).predict(TEXTS)
    first = AdapterBundle.load(single.folder, backbone=backbone)
    for other in (pairs, regression):
        AdapterBundle.load(other.folder, backbone=backbone)
    assert first.predict(TEXTS) == alone


# What is inside.


def test_a_bundle_is_four_files_and_no_pickle(single):
    assert sorted(path.name for path in single.folder.iterdir()) == ["README.md", *FILES]
    assert (single.folder / "README.md").read_text(encoding="utf-8") == "# Toy\nnaïve 東京\n"
    assert json.loads((single.folder / "metrics.json").read_text()) == {"test": {"accuracy": 0.5}}
    for path in single.folder.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError)):
            pickle.loads(path.read_bytes())  # noqa: S301 - ours; it must not be one
        assert not path.read_bytes().startswith(b"PK")


def test_only_what_trained_is_inside(single):
    tensors = safetensors.torch.load_file(single.folder / "adapter.safetensors")
    assert tensors.keys() == single.run.model.trained().keys()
    kinds = {name.split(".")[0] for name in tensors}
    assert kinds == {"adapter", "norm", "head"}
    assert all(torch.equal(tensor, single.run.best[name]) for name, tensor in tensors.items())
    size = (single.folder / "adapter.safetensors").stat().st_size
    assert size < 4 * single.run.model.bank.values.numel() + 8192


def test_the_config_says_what_is_needed(single):
    config, _ = read_bundle(single.folder)
    assert config.backbone_fingerprint == single.backbone.fingerprint
    assert (config.task, config.kind, config.labels) == ("toy", "classification", ("bad", "good"))
    assert (config.pooling, config.max_tokens) == ("pooler", MAX_TOKENS)
    assert config.train == single.run.config


def test_numbers_and_names_of_a_config_survive_exactly(tmp_path, single):
    config, parameters = read_bundle(single.folder)
    odd = replace(config, labels=("naïve", "東京 \"'\\"), target_mean=0.1 + 0.2, target_std=1e-300)
    write_bundle(tmp_path / "odd", odd, parameters, metrics={}, card="")
    assert read_bundle(tmp_path / "odd")[0] == odd


# What is refused.


def refusal(folder, **options):
    with pytest.raises(BundleError) as caught:
        AdapterBundle.load(folder, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_its_name(folder, name):
    (folder / name).unlink()
    assert refusal(folder) == f"{folder} is not a whole bundle: {name} is missing. Export it again."


def test_a_missing_folder_is_refused(tmp_path):
    assert "is not a whole bundle" in refusal(tmp_path / "nothing")


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 0.5, 0.9, -1])
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_by_its_name(folder, name, kept):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    assert f"{folder}/{name}" in refusal(folder)


@pytest.mark.parametrize("place", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_by_the_files_name(folder, name, place):
    data = bytearray((folder / name).read_bytes())
    data[int(len(data) * place)] ^= 1
    (folder / name).write_bytes(data)
    assert f"{folder}/{name}" in refusal(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_longer_file_is_refused_by_its_name(folder, name):
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    assert f"{folder}/{name}" in refusal(folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", "[1]", "1", '"a"', "null", "\xff"])
def test_a_config_that_is_none_is_refused(folder, content):
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    assert f"{folder}/config.json is damaged" in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("labels", ["good", "bad"]), ("target_mean", 1.0), ("max_tokens", 8), ("format", 2), ("more", 1)],
)
def test_an_edited_config_is_refused(folder, key, value):
    path = folder / "config.json"
    content = json.loads(path.read_text()) | {key: value}
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    assert refusal(folder) == (
        f"{folder}/config.json was changed since it was written. Export the bundle again."
    )


def test_a_bundle_of_a_later_format_asks_for_an_update(tmp_path, single, monkeypatch):
    config, parameters = read_bundle(single.folder)
    monkeypatch.setattr("pipelines.bundle_files.FORMAT", 2)
    write_bundle(tmp_path / "later", config, parameters, metrics={}, card="")
    monkeypatch.undo()
    assert "has bundle format 2, this adaptune reads 1. Update adaptune." in refusal(tmp_path / "later")


def write_config(folder, **changes):
    """Change a bundle's config and make its checksum right again, as whoever means harm can."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    content.pop("checksum")
    content["checksum"] = hashlib.sha256(as_written(content)).hexdigest()
    path.write_bytes(as_written(content))


def as_written(content):
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def make_fifo(path):
    os.mkfifo(path)


def make_link(path):
    path.symlink_to("/dev/zero")


def make_link_to_a_secret(path):
    secret = path.parent.parent / "id_rsa"
    secret.write_text("secret")
    path.symlink_to(secret)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def make_folder(path):
    path.mkdir()


@pytest.mark.parametrize("make", [make_fifo, make_link, make_link_to_a_secret, make_socket, make_folder])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_bundle_that_is_no_plain_file_is_refused_without_opening_it(folder, name, make):
    (folder / name).unlink()
    make(folder / name)
    assert f"{folder}/{name} is " in refusal(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_bundle_that_is_too_large_is_refused_before_it_is_read(folder, name):
    with (folder / name).open("r+b") as file:
        file.truncate(1_800_000_000_000)  # takes no place on the disk
    assert "1,800,000,000,000 bytes" in refusal(folder)


def test_a_header_that_claims_more_than_there_is_is_refused(folder):
    header = {"head.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + bytes(8)
    (folder / "adapter.safetensors").write_bytes(data)
    metrics = hashlib.sha256((folder / "metrics.json").read_bytes()).hexdigest()
    sums = {"adapter.safetensors": hashlib.sha256(data).hexdigest(), "metrics.json": metrics}
    write_config(folder, sha256=sums)
    assert f"{folder} cannot be read" in refusal(folder)


@pytest.mark.parametrize("size", [10**9, 10**30, 2.5, 10**400])
def test_a_config_that_claims_a_huge_or_odd_adapter_is_refused_before_it_is_made(folder, size):
    train = json.loads((folder / "config.json").read_text())["train"]
    write_config(folder, train=train | {"adapter_size": size})
    assert str(folder) in refusal(folder)


@pytest.mark.parametrize("named", ["/dev/zero", "../../id_rsa", "README.md"])
def test_checksums_of_any_other_file_are_refused(folder, named):
    sums = json.loads((folder / "config.json").read_text())["sha256"]
    write_config(folder, sha256=sums | {named: "0" * 64})
    assert "has checksums of other files" in refusal(folder)


def test_a_deeply_nested_config_is_refused(folder):
    (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    assert f"{folder}/config.json is damaged" in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", [1, 2]),
        ("labels", None),
        ("text_columns", [["a"]]),
        ("text_columns", []),
        ("text_columns", ["a", "b", "c"]),
        ("kind", 3),
        ("max_tokens", "64"),
        ("max_tokens", 0),
        ("target_mean", 10**400),
        ("target_std", None),
        ("train", []),
        ("train", {"adapter_layers": 10**9}),
        ("train", {"method": ["adapter"]}),
        ("backbone", {"a": 1}),
        ("sha256", 7),
        ("format", None),
    ],
)
def test_a_config_of_odd_values_is_refused_as_a_bundle(folder, key, value):
    write_config(folder, **{key: value})
    assert str(folder) in refusal(folder)


@pytest.mark.integration
@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "[1]",
        "1",
        "null",
        "",
        "\xff",
        "1" * 10_000,
        '{"metric": ["f1"]}',
        '{"label": {}}',
        '{"positive": 1}',
    ],
)
def test_scores_that_are_none_are_refused_by_their_file(folder, content):
    data = content.encode("latin-1")
    (folder / "metrics.json").write_bytes(data)
    sums = json.loads((folder / "config.json").read_text())["sha256"]
    write_config(folder, sha256=sums | {"metrics.json": hashlib.sha256(data).hexdigest()})
    assert f"{folder}/metrics.json " in refusal(folder)


def test_a_bundle_has_the_scores_that_were_written(single):
    assert AdapterBundle.load(single.folder).metrics == {"test": {"accuracy": 0.5}}


def test_a_bundle_of_a_kind_that_is_not_registered_here_is_refused_by_its_folder(folder):
    write_config(folder, kind="tags")
    for read in (AdapterBundle.load, read_bundle):
        with pytest.raises(BundleError, match="not a kind of task") as caught:
            read(folder)
        assert str(caught.value).startswith(f"{folder} needs what is not there (kind = 'tags'")
        assert str(caught.value).endswith("Import the package that registers it, or update adaptune.")


def test_the_card_may_be_edited_or_removed(folder):
    (folder / "README.md").write_text("my own words")
    AdapterBundle.load(folder)
    (folder / "README.md").unlink()
    AdapterBundle.load(folder)


def test_parameters_that_do_not_fit_the_config_are_refused(tmp_path, single):
    config, parameters = read_bundle(single.folder)
    fewer = {name: tensor for name, tensor in parameters.items() if name != "head.bias"}
    write_bundle(tmp_path / "fewer", config, fewer, metrics={}, card="")
    assert "adapter.safetensors does not fit its config.json: head.bias differ" in refusal(tmp_path / "fewer")
    wider = replace(config, train=replace(config.train, adapter_size=8))
    write_bundle(tmp_path / "wider", wider, parameters, metrics={}, card="")
    assert "adapter.safetensors does not fit its config.json: adapter.0" in refusal(tmp_path / "wider")


def test_another_backbone_is_refused_with_both_fingerprints(single, tmp_path):
    other = load_backbone(str(save_tiny_encoder(tmp_path / "other", seed=1)))
    for given in (other, other.name):
        message = refusal(single.folder, backbone=given)
        assert single.backbone.fingerprint[:12] in message
        assert other.fingerprint[:12] in message
        assert "Give the backbone it was trained on." in message


def test_a_backbone_that_is_gone_is_refused_as_input(single, tmp_path):
    with pytest.raises(InputError, match="backbone = ") as caught:
        AdapterBundle.load(single.folder, backbone=str(tmp_path / "gone"))
    assert "--backbone" not in str(caught.value)  # which was given
    assert f"It was given as the encoder of {single.folder}." in str(caught.value)


def test_a_bundle_whose_backbone_is_elsewhere_now_says_how_to_name_it(folder, tmp_path):
    write_config(folder, backbone=str(tmp_path / "moved"))
    with pytest.raises(InputError, match="moved") as caught:
        AdapterBundle.load(folder)
    assert f"the encoder of {folder} is elsewhere now, say where: --backbone, or backbone=" in str(
        caught.value
    )


def test_a_folder_that_holds_something_is_not_written_to(tmp_path, single):
    config, parameters = read_bundle(single.folder)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty; choose another folder or empty it"):
        write_bundle(tmp_path, config, parameters, metrics={}, card="")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("bad", [("good", "bad"), ("good", "bad", "ugly"), (), (3,)])
def test_a_bundle_for_single_texts_refuses_anything_else(single, bad):
    bundle = AdapterBundle.load(single.folder, backbone=single.backbone)
    with pytest.raises(InputError) as caught:
        bundle.predict(["fine", bad])
    assert caught.value.key == "texts[1]"
    assert caught.value.rule == "this bundle takes 1 text(s) an example: text"
    assert caught.value.fix == "Give one string."


@pytest.mark.parametrize("bad", ["good", ("good",), ("good", None)])
def test_a_bundle_for_pairs_refuses_anything_else(pairs, bad):
    bundle = AdapterBundle.load(pairs.folder, backbone=pairs.backbone)
    with pytest.raises(InputError) as caught:
        bundle.predict([("a", "b"), bad])
    assert caught.value.key == "texts[1]"
    assert caught.value.rule == "this bundle takes 2 text(s) an example: first, second"
    assert caught.value.fix == "Give pairs as (first, second)."


@pytest.mark.parametrize("bad", [None, 3])
def test_what_is_no_text_is_refused(single, bad):
    bundle = AdapterBundle.load(single.folder, backbone=single.backbone)
    with pytest.raises(InputError, match=r"texts\[0\]"):
        bundle.predict([bad])


def test_one_string_in_place_of_a_list_is_refused(single):
    bundle = AdapterBundle.load(single.folder, backbone=single.backbone)
    with pytest.raises(InputError, match=r"Write \[text\]"):
        bundle.predict("my screen is black")


def test_no_texts_give_no_predictions(single):
    assert AdapterBundle.load(single.folder, backbone=single.backbone).predict([]) == []


def test_reading_a_bundle_needs_no_backbone(single, monkeypatch):
    monkeypatch.setattr("pipelines.bundle.load_backbone", None)
    read_bundle(single.folder)


def test_half_a_character_is_refused_by_its_text(single, pairs):
    with pytest.raises(InputError, match=r"texts\[1\] = .*has half a character"):
        AdapterBundle.load(single.folder).predict(["whole", "half \ud83d"])
    with pytest.raises(InputError, match=r"texts\[0\] = .*has half a character"):
        AdapterBundle.load(pairs.folder).predict([("whole", "\udc00")])

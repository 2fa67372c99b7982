import json
import pickle
import shutil
import sys
from dataclasses import dataclass

import pytest
import safetensors.torch
import torch
import transformers
from tiny import MAX_TOKENS, D, edit_json, save_tiny_encoder, tiny_model, tiny_tokenizer
from transformers import AutoModel

from pipelines.encoder.architectures import ARCHITECTURES
from pipelines.encoder.backbone import load_backbone, read_config
from pipelines.encoder.tokens import check_max_tokens
from pipelines.errors import InputError
from pipelines.locations import resolve_location


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder that no test changes."""
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def folder(saved, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(saved, tmp_path / "encoder")


def edit_weights(folder, edit):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    edit(tensors)
    path.write_bytes(safetensors.torch.save(tensors, {"format": "pt"}))


def drop(prefix):
    def edit(tensors):
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    return edit


def refusal(name):
    with pytest.raises(InputError) as caught:
        load_backbone(str(name))
    assert caught.value.key == "backbone"
    assert caught.value.value == str(name)
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_a_folder_of_every_architecture_loads_as_it_was_saved(tmp_path, model_type):
    backbone = load_backbone(str(save_tiny_encoder(tmp_path, model_type)))
    saved = dict(tiny_model(model_type).named_parameters())
    loaded = dict(backbone.model.named_parameters())
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)
    assert backbone.architecture is ARCHITECTURES[model_type]
    assert backbone.has_pooler == any(name.startswith("pooler") for name in saved)
    assert backbone.width == D
    assert backbone.parameters == sum(p.numel() for p in saved.values())


def test_a_loaded_backbone_is_frozen_and_evaluates(saved):
    backbone = load_backbone(str(saved))
    assert backbone.name == str(saved)
    assert not backbone.model.training
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}


def test_half_precision_weights_are_loaded_as_fp32(folder):
    edit_weights(folder, lambda tensors: tensors.update({k: v.half() for k, v in tensors.items()}))
    edit_json(folder / "config.json", dtype="float16")
    assert {p.dtype for p in load_backbone(str(folder)).model.parameters()} == {torch.float32}


@dataclass
class Package:
    name: str
    root: object


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package `encoder_in_a_package` that holds an encoder."""
    root = tmp_path / "site" / "encoder_in_a_package"
    save_tiny_encoder(root / "model")
    (root / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(root.parent)
    yield Package(root.name, root)
    sys.modules.pop(root.name, None)


def test_a_package_is_read_without_importing_it(package, saved):
    backbone = load_backbone(f"package:{package.name}/model")
    assert backbone.name == f"package:{package.name}/model"
    assert backbone.fingerprint == load_backbone(str(saved)).fingerprint
    assert package.name not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        "package:no_such_package_here/model",
        "package:json.decoder/x",
        "package:__main__/x",
        "package:",
        "package:this/x",  # a module, not a package
    ],
)
def test_a_package_that_is_not_installed_is_refused(name):
    error = refusal(name)
    assert "is installed" in error.rule


@pytest.mark.parametrize("inside", ["missing", "../outside", "/etc", "model/../../outside"])
def test_a_place_that_the_package_does_not_have_is_refused(package, inside):
    (package.root.parent / "outside").mkdir()
    error = refusal(f"package:{package.name}/{inside}")
    assert error.rule == f"package {package.name!r} has no {inside!r}"
    assert str(package.root) in error.fix


def test_what_is_no_package_stays_as_it_is():
    assert resolve_location("bert-base-uncased", key="backbone") == "bert-base-uncased"
    assert resolve_location("/some/folder", key="backbone") == "/some/folder"


def test_a_missing_folder_is_refused(tmp_path):
    error = refusal(tmp_path / "nothing")
    assert "cannot be loaded" in error.rule
    assert "config.json, model.safetensors" in error.fix


def test_an_empty_folder_is_refused(tmp_path):
    assert "config.json" in refusal(tmp_path).rule


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model_type": "gpt9"}', '{"model_type": 3}'])
def test_a_config_that_is_none_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    assert "cannot be loaded" in refusal(folder).rule


def test_a_config_with_a_value_of_the_wrong_type_is_refused(folder):
    edit_json(folder / "config.json", hidden_size="wide")
    assert "hidden_size" in refusal(folder).rule


def test_an_unknown_architecture_is_refused_with_the_list(folder):
    edit_json(folder / "config.json", model_type="gpt2", architectures=None)
    error = refusal(folder)
    assert error.rule == "its architecture 'gpt2' is not supported"
    assert error.fix == f"Supported: {', '.join(sorted(ARCHITECTURES))}."


def test_code_of_a_checkpoint_is_never_run(folder):
    edit_json(folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})
    (folder / "own.py").write_text("raise RuntimeError('ran')")
    assert "trust_remote_code" in refusal(folder).rule or "custom code" in refusal(folder).rule


class Trap:
    """Unpickling it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def test_a_pickled_checkpoint_is_never_read(folder, tmp_path):
    trace = tmp_path / "unpickled"
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Trap(trace), file)
    error = refusal(folder)
    assert "safetensors" in error.rule
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(folder, kept):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert "cannot be loaded" in refusal(folder).rule


def test_weights_that_lack_a_tensor_are_refused_by_its_name(folder):
    edit_weights(folder, drop("encoder.layer.1.output.dense"))
    error = refusal(folder)
    assert error.rule == (
        "its weights lack 2 tensors of a bert encoder, e.g. encoder.layer.1.output.dense.bias"
    )


def test_weights_of_another_shape_are_refused(folder):
    edit_weights(folder, lambda tensors: tensors.update({"pooler.dense.bias": torch.zeros(D + 1)}))
    refusal(folder)


def test_a_checkpoint_without_a_tokenizer_is_refused(folder):
    """transformers would make an empty one up, and every word would be unknown."""
    for path in folder.glob("tokenizer*"):
        path.unlink()
    error = refusal(folder)
    assert error.rule == "it has no tokenizer"


def test_a_tokenizer_that_knows_more_tokens_than_the_encoder_is_refused(folder):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["adaptune"])
    tokenizer.save_pretrained(folder)
    assert "counts to" in refusal(folder).rule


def test_a_tokenizer_without_padding_is_refused(folder):
    edit_json(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", pad_token=None)
    assert "no padding token" in refusal(folder).rule


def test_a_checkpoint_without_pooler_weights_has_no_pooler(folder):
    edit_weights(folder, drop("pooler"))
    backbone = load_backbone(str(folder))
    assert not backbone.has_pooler
    assert not any("pooler" in name for name, _ in backbone.model.named_parameters())
    assert backbone.pooling("auto") == "cls"
    assert backbone.pooling("mean") == "mean"
    with pytest.raises(InputError) as caught:
        backbone.pooling("pooler")
    assert caught.value.key == "pooling"
    assert "no trained pooler" in caught.value.rule
    assert caught.value.fix == "Use auto, cls or mean."


def test_a_checkpoint_with_half_a_pooler_has_none(folder):
    edit_weights(folder, drop("pooler.dense.bias"))
    assert not load_backbone(str(folder)).has_pooler


def test_auto_takes_the_pooler_that_a_checkpoint_has(saved):
    backbone = load_backbone(str(saved))
    assert backbone.has_pooler
    assert [backbone.pooling(wanted) for wanted in ("auto", "pooler", "cls", "mean")] == [
        "pooler",
        "pooler",
        "cls",
        "mean",
    ]


def test_a_checkpoint_with_a_head_loads_as_its_encoder(folder):
    """As published: tensors named bert.…, with a masked language model's head besides."""
    tensors = safetensors.torch.load((folder / "model.safetensors").read_bytes())
    renamed = {f"bert.{name}": tensor for name, tensor in tensors.items() if not name.startswith("pooler")}
    renamed["cls.predictions.bias"] = torch.zeros(5)
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(renamed, {"format": "pt"}))
    backbone = load_backbone(str(folder))
    assert not backbone.has_pooler
    assert torch.equal(
        backbone.model.embeddings.word_embeddings.weight, tensors["embeddings.word_embeddings.weight"]
    )


def test_the_fingerprint_is_the_same_wherever_the_folder_lies(saved, folder):
    first, second = load_backbone(str(saved)), load_backbone(str(folder))
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 64
    int(first.fingerprint, 16)


@pytest.mark.parametrize("key", ["transformers_version", "_name_or_path", "dtype", "torch_dtype"])
def test_the_fingerprint_does_not_look_at_who_wrote_the_config(saved, folder, key):
    edit_json(folder / "config.json", **{key: "float32" if "dtype" in key else "4.0.0"})
    assert load_backbone(str(folder)).fingerprint == load_backbone(str(saved)).fingerprint


def nudge(tensors):
    tensors["encoder.layer.1.output.dense.weight"][3, 5] += 1e-7


def relabel(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["printer"], vocabulary["screen"] = vocabulary["screen"], vocabulary["printer"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


CHANGES = {
    "one weight": lambda folder: edit_weights(folder, nudge),
    "the pooler is gone": lambda folder: edit_weights(folder, drop("pooler")),
    "two words swapped": relabel,
    "case": lambda folder: tiny_tokenizer(do_lower_case=False).save_pretrained(folder),
    "cut at the other end": lambda folder: edit_json(
        folder / "tokenizer_config.json", truncation_side="left"
    ),
    "activation": lambda folder: edit_json(folder / "config.json", hidden_act="relu"),
    "dropout": lambda folder: edit_json(folder / "config.json", hidden_dropout_prob=0.2),
    "norm's epsilon": lambda folder: edit_json(folder / "config.json", layer_norm_eps=1e-6),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_changes_with(change, saved, folder):
    CHANGES[change](folder)
    assert load_backbone(str(folder)).fingerprint != load_backbone(str(saved)).fingerprint


def test_texts_may_be_as_long_as_the_tokenizer_says(saved):
    tokenizer = load_backbone(str(saved)).tokenizer
    check_max_tokens("tiny", tokenizer, MAX_TOKENS)
    with pytest.raises(InputError) as caught:
        check_max_tokens("tiny", tokenizer, MAX_TOKENS + 1)
    assert (caught.value.key, caught.value.fix) == ("max_tokens", f"Write {MAX_TOKENS} or less.")


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_texts_as_long_as_allowed_fit_where_the_tokenizer_does_not_say(tmp_path, model_type):
    """A RoBERTa has 514 rows for 512 places."""
    save_tiny_encoder(tmp_path, model_type)
    edit_json(tmp_path / "tokenizer_config.json", model_max_length=None)
    backbone = load_backbone(str(tmp_path))
    limit = backbone.tokenizer.model_max_length
    assert limit == MAX_TOKENS
    ids = torch.full((1, limit), 99)
    with torch.no_grad():
        backbone.model(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_transformers_settings_are_put_back(saved, tmp_path):
    logging = transformers.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    try:
        load_backbone(str(saved))
        read_config(str(saved))
        refusal(tmp_path / "nothing")
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        load_backbone(str(saved))
        assert not logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(before[0])
        (logging.enable_progress_bar if before[1] else logging.disable_progress_bar)()


def test_loading_says_nothing(saved, folder, capfd):
    edit_weights(folder, drop("pooler"))
    capfd.readouterr()
    load_backbone(str(saved))
    load_backbone(str(folder))
    assert capfd.readouterr() == ("", "")


def test_reading_a_config_reads_no_weights(folder, monkeypatch):
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(AutoModel, "from_pretrained", None)
    assert read_config(str(folder)).hidden_size == D


# Numbers and files that no encoder has


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_naming_the_tensor(folder, value):
    def edit(tensors):
        tensors["encoder.layer.1.output.dense.weight"][3, 5] = value

    edit_weights(folder, edit)
    rule = refusal(folder).rule
    assert rule == (
        "its tensor encoder.layer.1.output.dense.weight has 1 of 2,048 values that are NaN or infinite"
    )


def test_weights_that_are_large_and_finite_are_no_fault(folder):
    def edit(tensors):  # their sum is not finite in fp32
        tensors["embeddings.word_embeddings.weight"][7:9] = 3e38

    edit_weights(folder, edit)
    load_backbone(str(folder))


def test_an_encoder_whose_states_are_not_finite_is_refused(folder):
    edit_json(folder / "config.json", layer_norm_eps=float("nan"))
    assert refusal(folder).rule == "what it makes of a short text is NaN or infinite"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", -1),
        ("num_hidden_layers", "x"),
        ("num_labels", 10**9),
        ("num_attention_heads", -1),
        ("hidden_size", 10**9),
        ("vocab_size", 10**12),
        ("chunk_size_feed_forward", "x"),
        ("model_type", [1]),
        ("max_position_embeddings", [1]),
    ],
)
def test_an_odd_size_in_its_config_is_refused_at_once(folder, key, value):
    edit_json(folder / "config.json", **{key: value})
    assert "cannot be loaded (" in refusal(folder).rule


@pytest.mark.parametrize("value", ["x", [5], {}])
def test_an_odd_length_in_its_tokenizer_s_config_is_refused(folder, value):
    edit_json(folder / "tokenizer_config.json", model_max_length=value)
    assert "cannot be loaded (" in refusal(folder).rule


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "content", ['{"model_type": "bert", "x": ' + "[" * 20_000 + "]" * 20_000 + "}", "[1]", '"x"', "5", "\x00"]
)
def test_deep_and_odd_files_are_refused(folder, name, content):
    (folder / name).write_text(content)
    assert len(str(refusal(folder))) < 1500


class Opened:
    """Notes that it was unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


@pytest.mark.parametrize("shard", ["evil.bin", "../evil.safetensors", "evil.pt"])
def test_an_index_that_names_no_safetensors_is_refused_before_anything_is_opened(folder, shard, monkeypatch):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / shard).write_bytes(pickle.dumps(Opened()))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, shard)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"names '{shard}'" in str(refusal(folder))


@pytest.mark.parametrize(
    "named",
    [
        {"transformers_weights": "other.safetensors.index.json"},
        {"transformers_weights": "other.safetensors"},
        {"attribute_map": {"transformers_weights": "other"}, "other": "other.safetensors.index.json"},
    ],
)
def test_weights_that_a_config_names_are_refused_before_anything_is_opened(folder, named, monkeypatch):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "evil.bin").write_bytes(pickle.dumps(Opened()))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "evil.bin")}
    (folder / "other.safetensors.index.json").write_text(json.dumps(index))
    edit_json(folder / "config.json", **named)
    assert "names 'other.safetensors" in str(refusal(folder))


def test_an_adapter_beside_the_weights_is_refused_whether_or_not_peft_would_follow_it(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere/encoder"}')
    assert "adapter_config.json" in str(refusal(folder))


def test_shards_of_safetensors_are_read(folder, saved):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    tensors = safetensors.torch.load_file(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_backbone(str(folder)).parameters == load_backbone(str(saved)).parameters


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_an_attention_that_a_config_names_is_never_fetched(folder, saved, key):
    """transformers fetches ORG/KERNEL from the Hub and runs it."""
    edit_json(folder / "config.json", **{key: "org/kernel"})
    ours = load_backbone(str(folder)).model.config._attn_implementation
    assert ours == load_backbone(str(saved)).model.config._attn_implementation
    assert "/" not in ours

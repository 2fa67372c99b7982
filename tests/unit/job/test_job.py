import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
from job_files import LEAST, OWN, job

from pipelines.tasks.registry import registered_task
from pipelines.tasks.task import Files, Hub, SplitRule, Task
from search.errors import JobError, Problem, UserError
from search.job.job import SearchJob
from search.storage import Storage
from spaces import Space, preset


def messages(**changes):
    with pytest.raises(JobError) as caught:
        job(**changes)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "job.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# Reading


def test_the_least_job_has_the_documented_defaults():
    read = job().to_dict()
    assert read["split"] == {"validation": 0.1, "test": 0.1, "folds": None, "group": None, "seed": 0}
    assert (read["max_tokens"], read["pooling"], read["precision"]) == (128, "auto", "auto")
    assert read["search"] == {
        "sampler": "tpe",
        "scheduler": "halving",
        "reduction": 3,
        "objectives": ["score"],
        "max_trained_parameters": None,
        "experience": "auto",
        "patience": None,
        "trials": 18,
        "seed": 0,
    }
    assert read["resources"] == {
        **{"cpus": 1, "gpus": 0.0, "concurrent": "auto"},
        **{"pack": "auto", "compile": "auto"},
    }
    assert read["tracking"] == {"uri": None, "experiment": None}
    assert read["storage"] == str(Path.cwd() / "runs")
    assert job().methods == ("adapter",)
    assert job().space_for("adapter") == preset("default")


def test_a_file_is_read_as_yaml_1_2(write):
    path = write(
        """
        name: tickets
        backbone: bert-base-uncased
        tasks:
          - {name: own, files: {train: a.csv}, label: yes, positive: no, metric: f1}
        space: {learning_rate: 3e-5, epochs: [3, 20]}
        """
    )
    read = SearchJob.load(path)
    task = read.resolved_tasks()[0]
    assert (task.label, task.positive) == ("yes", "no")
    assert read.space_for("adapter") == Space.parse({"learning_rate": 0.00003, "epochs": [3, 20]})


def test_paths_of_a_file_are_relative_to_it_and_storage_to_the_working_directory(
    write, tmp_path, monkeypatch
):
    (tmp_path / "encoder").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    path = write(
        """
        name: tickets
        backbone: encoder
        data_dir: data
        storage: here
        tasks: [{name: own, files: {train: rows/a.csv, validation: package:corpus/b.csv, test: /abs/c.csv}}]
        """
    )
    read = SearchJob.load(path)
    assert read.backbone == str(tmp_path / "encoder")
    assert read.data_dir == str(tmp_path / "data")
    assert read.storage == str(work / "here")
    assert Storage(read.storage, read.database).database_url == f"sqlite:///{work}/here/studies.db"
    assert read.resolved_tasks()[0].files == Files(
        train=str(tmp_path / "rows/a.csv"), validation="package:corpus/b.csv", test="/abs/c.csv"
    )
    assert SearchJob.load(path, storage="there").storage == str(work / "there")


@pytest.mark.parametrize(
    "backbone", ["bert-base-uncased", "x" * 5000, "org/model", "package:some_model/folder"]
)
def test_a_backbone_that_is_no_folder_is_left_as_it_is(backbone):
    assert job(backbone=backbone).backbone == backbone


def test_a_job_from_python_is_the_same_as_from_a_mapping(tmp_path):
    made = SearchJob(
        name="tickets",
        backbone="bert-base-uncased",
        tasks=["glue_cola"],
        space=Space.parse({"epochs": 3}),
        storage=tmp_path,
    )
    assert made == job(space={"epochs": 3}, storage=str(tmp_path))
    with pytest.raises(JobError, match=r"job: 4 problem\(s\)\n  name = None: required key is missing"):
        SearchJob(bakbone="x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty. Give at least name, backbone and tasks."),
        ("- a\n- b\n", "file = ['a', 'b']: needs keys and values. Start with e.g. name: support-tickets."),
        (
            "name: a\nname: b\n",
            "line 2, column 1 = 'name: b': found duplicate key \"name\". Keep one of the two.",
        ),
        ("split: {seed: 1, seed: 2}\n", 'found duplicate key "seed"'),
        ("name: [a\nbackbone: b\n", "line 2, column 9 = 'backbone: b': expected ',' or ']', but got ':'."),
        ("name: a: b\n", "line 1, column 8 = 'name: a: b': mapping values are not allowed here."),
        ("name: !!python/object:os.system x\n", "could not determine a constructor"),
        ("name: !!int x\n", "is not YAML: invalid literal for int()"),
        ("[" * 500, "is nested more than 20 deep"),
    ],
)
def test_a_file_that_is_no_job_is_refused(write, text, message):
    path = write(text)
    with pytest.raises(JobError) as caught:
        SearchJob.load(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: 1 problem(s)\n  ")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(
        JobError, match=r"cannot be read: No such file or directory\. Name a readable YAML file"
    ):
        SearchJob.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(JobError, match="cannot be read: is not UTF-8 text"):
        SearchJob.load(tmp_path / "latin.yaml")


# Refusing

REFUSED = [
    ({"sampelr": "tpe"}, "sampelr = 'tpe': unknown key. Known: "),
    ({"max_token": 8}, "max_token = 8: unknown key. Did you mean 'max_tokens'?"),
    ({"search": {"sampelr": "tpe"}}, "search.sampelr = 'tpe': unknown key. Did you mean 'sampler'?"),
    ({"tasks": [{**OWN, "labell": "x"}]}, "tasks[0].labell = 'x': unknown key. Did you mean 'label'?"),
    (
        {"tasks": [{**OWN, "limit": {"trian": 3}}]},
        "tasks[0].limit.trian = 3: unknown key. Did you mean 'train'? Known: test, train, validation.",
    ),
    ({"search": {"trials": 0}}, "search.trials = 0: needs 1 or more."),
    ({"search": {"trials": "18"}}, "search.trials = '18': needs a whole number. Write it without quotes"),
    ({"search": {"trials": True}}, "search.trials = True: needs a whole number."),
    ({"search": {"seed": -1}}, "search.seed = -1: needs 0 or more."),
    (
        {"search": 3},
        "search = 3: needs keys and values. Known keys: experience, "
        "max_trained_parameters, objectives, patience, reduction, sampler, "
        "scheduler, seed, trials.",
    ),
    ({"search": {"sampler": "tep"}}, "search.sampler = 'tep': unknown value. Did you mean 'tpe'?"),
    ({"search": {"sampler": ["tpe"]}}, "search.sampler = ['tpe']: unknown value."),
    ({"search": {"sampler": "grid"}}, "search.sampler = 'grid': a grid needs lists of values"),
    ({"max_tokens": 7}, "max_tokens = 7: needs 8 or more."),
    ({"max_tokens": 8193}, "max_tokens = 8193: needs 8192 or less."),
    ({"name": 12}, "name = 12: needs text. Put it in quotes."),
    ({"name": ["a"]}, "name = ['a']: needs text. Write one value."),
    ({"name": "../x"}, "name = '../x': cannot be a name: folders are called by it. Use 1 to 100 letters"),
    ({"name": "a..b"}, "name = 'a..b': cannot be a name"),
    ({"name": ""}, "name = '': cannot be a name"),
    ({"name": "a\n"}, "name = 'a\\n': cannot be a name"),
    ({"name": "x" * 101}, "cannot be a name"),
    ({"backbone": ""}, "backbone = '': is empty."),
    ({"backbone": "package:"}, "backbone = 'package:': names no package. Write package:NAME/PATH."),
    ({"tasks": []}, "tasks = []: is empty. Give at least one."),
    ({"tasks": "glue_cola"}, "tasks = 'glue_cola': needs a list."),
    ({"tasks": [7]}, "tasks[0] = 7: needs keys and values."),
    ({"tasks": ["../x"]}, "tasks[0] = '../x': cannot be a name"),
    ({"tasks": ["glue_cla"]}, "'glue_cla': not a registered task. Did you mean 'glue_cola'?"),
    ({"tasks": [{"name": "own", "text": "a"}]}, "a task that is not registered needs files or hub."),
    (
        {"tasks": [{**OWN, "files": {}}]},
        "tasks[0].files.train = None: required key is missing. Add it, e.g. train:",
    ),
    (
        {"tasks": [{**OWN, "metric": "acuracy"}]},
        "tasks[0].metric = 'acuracy': unknown metric. Did you mean 'accuracy'?",
    ),
    ({"tasks": [{**OWN, "metrics": ["f2"]}]}, "tasks[0].metrics[0] = 'f2': unknown metric."),
    (
        {"tasks": [{**OWN, "metric": "spearman"}]},
        "tasks[0].metric = 'spearman': does not score a classification.",
    ),
    ({"tasks": [{**OWN, "positive": "yes"}]}, "tasks[0].positive = 'yes': is for f1, which is not recorded."),
    ({"tasks": [{**OWN, "positive": True}]}, "tasks[0].positive = True: needs text. Put it in quotes."),
    (
        {"tasks": [{**OWN, "text": ["a", "b", "c"]}]},
        "tasks[0].text = ('a', 'b', 'c'): needs one or two columns.",
    ),
    ({"tasks": [{**OWN, "hub": "a/b"}]}, "the task has files as well. Keep one of the two."),
    ({"tasks": [{**OWN, "limit": {"train": 0}}]}, "tasks[0].limit.train = 0: needs 1 or more."),
    ({"tasks": [OWN, {**OWN}]}, "tasks[1].name = 'own': is the name of an earlier task."),
    ({"split": {"validation": 1.5}}, "split.validation = 1.5: needs a fraction between 0 and 1."),
    (
        {"split": {"validation": 0.5, "test": 0.5}},
        "split = (0.5, 0.5): validation and test together leave no row",
    ),
    ({"split": {"test": float("nan")}}, "split.test = nan: needs a fraction"),
    ({"space": "gleu"}, "space = 'gleu': unknown preset. Did you mean 'glue'? Known: default, "),
    ({"space": {}}, "space = {}: is empty."),
    ({"space": None}, "space = None: needs a mapping."),
    ({"space": {"epochs": {"low": 9, "high": 3}}}, "space.epochs = {'low': 9, 'high': 3}: needs low < high."),
    ({"space": {"epoch": 3}}, "space.epoch = 3: unknown parameter. Did you mean 'epochs'?"),
    ({"space": {"adapter": {"epochs": 0}}}, "space.adapter.epochs = 0: needs a whole number, 1 or more."),
    ({"space": {"adapter": "gleu"}}, "space.adapter = 'gleu': unknown preset."),
    (
        {"space": {"adapter": "glue", "epochs": 3}},
        "space.epochs = 3: not a method of this job. Methods: adapter.",
    ),
    ({"space": {"fine_tune": "glue"}}, "space.adapter = None: has no space."),
    ({"method": "adaptor"}, "method = 'adaptor': unknown value. Did you mean 'adapter'?"),
    ({"method": ["adapter", "adapter"]}, "method = ['adapter', 'adapter']: has a method twice."),
    ({"method": []}, "method = []: is empty."),
    ({"resources": {"cpus": 0}}, "resources.cpus = 0: needs 1 or more."),
    ({"resources": {"gpus": -1}}, "resources.gpus = -1: needs 0 or more."),
    ({"resources": {"gpus": 1.5}}, "resources.gpus = 1.5: above 1 needs whole GPUs. Write 1."),
    ({"resources": {"concurrent": 0}}, "resources.concurrent = 0: needs auto or a whole number, 1 or more."),
    ({"resources": {"concurrent": True}}, "resources.concurrent = True: needs auto or a whole number"),
    ({"pooling": "max"}, "pooling = 'max': unknown value. Known: auto, cls, mean, pooler."),
    ({"storage": "s3://bucket/runs"}, "database = None: is required where storage is a URI."),
    ({"database": "studies.db"}, "database = 'studies.db': is no URI. Write e.g. sqlite:////"),
    ({"storage": "~nobody-at-all/x"}, "storage = '~nobody-at-all/x': names no user's home."),
    ({"tracking": {"uri": "mlflow"}}, "tracking.uri = 'mlflow': is no URI."),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_a_job_refuses(changes, message):
    assert any(message in found for found in messages(**changes)), messages(**changes)


def test_all_problems_of_a_file_are_reported_at_once(write):
    path = write(
        """
        nmae: tickets
        backbone: bert-base-uncased
        tasks: [glue_cola, glue_cola, {name: own, metrik: f1, files: {trian: a.csv}}]
        space: {adapter_size: {low: 9, high: 3}, epoch: 3}
        search: {trials: 0, sampelr: tpe}
        split: {validation: 2.0}
        """
    )
    with pytest.raises(JobError) as caught:
        SearchJob.load(path)
    assert [problem.key for problem in caught.value.problems] == [
        "name",
        "tasks[2].files.train",
        "tasks[2].files.trian",
        "tasks[2].metrik",
        "split.validation",
        "space.adapter_size",
        "space.epoch",
        "search.trials",
        "search.sampelr",
        "nmae",
        "tasks[1]",
    ]
    assert str(caught.value).splitlines()[:2] == [
        f"{path}: 11 problem(s)",
        "  name = None: required key is missing. Add it, e.g. name: support-tickets.",
    ]
    assert "nmae = 'tickets': unknown key. Did you mean 'name'?" in str(caught.value)


def test_a_job_error_is_a_user_error_and_survives_pickling():
    with pytest.raises(UserError) as caught:
        job(name="../x")
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert str(copy) == str(caught.value)
    assert copy.problems == caught.value.problems


# Tasks and spaces


def test_a_task_by_name_is_the_registered_one():
    assert job().resolved_tasks() == (registered_task("glue_cola"),)


def test_a_registered_task_can_be_changed_in_part():
    (task,) = job(tasks=[{"name": "glue_mrpc", "limit": {"train": 600}}]).resolved_tasks()
    assert task.limit == {"train": 600}
    assert (task.text, task.metric) == (("text_a", "text_b"), "f1")


def test_a_registered_name_with_rows_of_its_own_is_a_task_of_its_own(tmp_path):
    raw = {**LEAST, "tasks": [{"name": "glue_mrpc", "files": {"train": "a.csv"}, "text": ["x", "y"]}]}
    (task,) = SearchJob.parse(raw, folder=tmp_path).resolved_tasks()
    assert task == Task(name="glue_mrpc", text=("x", "y"), files=Files(train=str(tmp_path / "a.csv")))


@pytest.mark.parametrize("hub", ["org/rows", {"path": "org/rows"}])
def test_a_hub_dataset_is_an_id_or_a_mapping(hub):
    (task,) = job(tasks=[{"name": "own", "hub": hub, "text": "body"}]).resolved_tasks()
    assert task == Task(name="own", text=("body",), hub=Hub(path="org/rows"))


def test_a_hub_split_that_is_null_is_cut():
    hub = {"path": "org/rows", "validation": None, "test": None}
    made = job(tasks=[{"name": "own", "hub": hub}])
    assert made.resolved_tasks()[0].hub == Hub(path="org/rows", validation=None, test=None)
    assert SearchJob.from_dict(made.to_dict()) == made


def test_the_split_rule_is_the_pipelines_own():
    assert job(split={"test": 0.2, "seed": 7}).split_rule() == SplitRule(validation=0.1, test=0.2, seed=7)


@pytest.mark.parametrize("space", ["glue", {"adapter": "glue"}, preset("glue").to_dict(), preset("glue")])
def test_a_space_is_a_preset_parameters_or_one_for_each_method(space):
    assert job(space=space, method=["adapter"]).space_for("adapter") == preset("glue")


def test_a_grid_over_choices_is_accepted():
    assert job(space="glue", search={"sampler": "grid"}).search.sampler == "grid"


# The reference


def test_the_examples_in_the_reference_are_jobs(write):
    text = (Path(__file__).parents[3] / "docs/job-file.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        assert SearchJob.load(write(example)).resolved_tasks()


def test_what_is_wrong_for_several_tasks_is_said_once():
    """A missing `data_dir` is missing for each of them."""
    missing = Problem("data_dir", "there", "no such folder", "Correct the path")
    error = JobError("job.yaml", [missing, replace(missing), replace(missing, key="storage")])
    assert str(error).count("data_dir") == 1
    assert str(error).startswith("job.yaml: 2 problem(s)")


@pytest.mark.parametrize(
    "address",
    [
        "https://host/train.csv",
        "http://host/a/b",
        "s3://bucket/a.csv",
        "file:///a.csv",
        "file:a.csv",
        "hf://x/y",
    ],
)
def test_an_address_is_no_data_path_and_the_message_says_what_to_do(address):
    given = {
        "tasks[0].files.train": {"tasks": [{"name": "mine", "files": {"train": address}}]},
        "data_dir": {"data_dir": address},
        "backbone": {"backbone": address},
    }
    for key, changes in given.items():
        with pytest.raises(JobError) as error:
            SearchJob.parse({"name": "a", "backbone": "b", "tasks": ["glue_cola"], **changes})
        assert f"{key} = '{address}': is an address, and" in str(error.value)
        assert "path" in str(error.value)

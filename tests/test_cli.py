"""The installed command, as a user meets it: help, tables, JSON, exit codes, sentences instead of tracebacks."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from openal_ray import __version__, cli
from openal_ray.cli import console, lookups
from openal_ray.run_folder import RunFolder
from openal_ray.strategies.catalogue import ENTRIES, STRATEGIES
from tests.command import COMMAND, exit_of
from tests.experiments import SMALL, small


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.cli, list(arguments), catch_exceptions=False)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(json.dumps(SMALL | {"train": SMALL["train"] | {"epochs": 1}}))
    return path


@pytest.fixture(scope="module")
def compared(config_file: Path) -> Path:
    """Two strategies and two seeds, run by the command."""
    out = config_file.parent / "compared"
    assert exit_of("run", str(config_file), "strategy=random,margin", "seed=0,1", f"out={out}") == 0
    return out


def test_the_installed_command_answers_without_loading_torch() -> None:
    code = (
        "import sys; sys.argv=['openal-ray','--version']\nfrom openal_ray.cli import cli\ncli(standalone_mode=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + "assert 'torch' not in sys.modules"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert __version__ in shown.stdout


def test_help_names_every_command_and_the_exit_codes() -> None:
    text = invoke("--help").output
    for word in ("run", "resume", "status", "report", "strategies", "datasets", "doctor", "Exit codes"):
        assert word in text
    assert "KEY=VALUE" in invoke("run", "--help").output


def test_strategies_as_json_have_the_promised_fields() -> None:
    facts = json.loads(invoke("strategies", "--json").output)
    assert [entry["name"] for entry in facts] == [entry.name for entry in ENTRIES]
    for entry in facts:
        assert {"name", "aliases", "family", "needs", "paper", "parameters"} <= set(entry)


def test_the_list_of_strategies_fits_a_terminal_with_every_name_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=shown, width=100))
    invoke("strategies")
    lines = shown.getvalue().splitlines()
    first_words = [line.split()[0] for line in lines if line[:2].strip()]
    assert [word for word in first_words if word in STRATEGIES] == list(STRATEGIES)
    assert max(map(len, lines)) <= 100
    assert len(lines) < 2 * len(STRATEGIES)  # most of them in a single line


def test_status_says_how_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder.create(small(tmp_path / "run")).close()
    shown = io.StringIO()
    monkeypatch.setattr(lookups, "out", Console(file=shown, width=100))
    invoke("status", str(tmp_path / "run"))
    assert f"interrupted; `openal-ray resume {tmp_path / 'run'}` goes on" in shown.getvalue()
    assert json.loads(invoke("status", str(tmp_path / "run"), "--json").output)[0]["state"] == "interrupted"


def test_one_strategy_is_found_by_its_alias() -> None:
    printed = invoke("strategies", "KCenterGreedy").output
    assert "Sener & Savarese" in printed and "guarantee: exact" in printed


def test_datasets_as_json() -> None:
    names = [entry["name"] for entry in json.loads(invoke("datasets", "--json").output)]
    assert {"digits", "cifar10", "imagenet", "tiny_imagenet"} <= set(names)


def test_several_strategies_and_seeds_are_run_and_compared(compared: Path) -> None:
    runs = {"random-0", "random-1", "margin-0", "margin-1"}
    assert runs <= {path.name for path in compared.iterdir()}
    assert {"report.html", "curves.png", "comparison.csv"} <= {path.name for path in compared.iterdir()}
    for name in runs:
        with (compared / name / "metrics.csv").open() as file:
            assert [row["labelled"] for row in csv.DictReader(file)] == ["20", "35", "50"]


def test_report_as_json(compared: Path) -> None:
    found = json.loads(invoke("report", str(compared), "--json").output)
    strategies = {entry["strategy"] for entry in found["comparisons"][0]["strategies"]}
    assert strategies == {"random", "margin"}
    assert Path(found["report"]).is_file()


def test_report_in_the_terminal_has_the_table(compared: Path) -> None:
    text = invoke("report", str(compared)).output
    for word in ("margin", "random", "AUBC", "labels saved", "50 labels", "report.html"):
        assert word in text


def test_status_says_finished(compared: Path) -> None:
    states = json.loads(invoke("status", str(compared), "--json").output)
    assert [state["state"] for state in states] == ["finished"] * 4
    assert {state["labelled"] for state in states} == {50}


def test_resume_of_finished_runs_changes_nothing(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (compared / "margin-0" / "rounds.jsonl").read_bytes()
    assert exit_of("resume", str(compared)) == 0
    assert (compared / "margin-0" / "rounds.jsonl").read_bytes() == before


def test_openals_keys_are_translated_and_said_to_be(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [
        "AL.strategy=MarginSampling",
        "AL.n_start=20",
        "AL.n_query=10",
        "AL.n_end=30",
        f"DEFAULT.savedir={tmp_path / 'o'}",
    ]
    assert exit_of("run", str(config_file), *keys) == 0
    assert "AL.n_start → budget.n_start=20" in capsys.readouterr().err
    with (tmp_path / "o" / "metrics.csv").open() as file:
        assert [row["labelled"] for row in csv.DictReader(file)] == ["20", "30"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["strateg=margin"], "Did you mean 'strategy'"),
        (["strategy=margn"], "Did you mean 'margin'"),
        (["data.name=digit"], "Did you mean 'digits'"),
        (["model.name=resnet19"], "unknown model 'resnet19'"),
        (["budget.n_query=many"], "budget.n_query"),
        (["strategy=random,random"], "the same run twice"),
        (["seed"], "an override is written key=value"),
        (["data.name=manifest:absent.csv"], "absent.csv"),
    ],
)
def test_bad_input_exits_2_with_a_sentence_and_leaves_nothing(
    arguments: list[str], message: str, config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of("run", str(config_file), f"out={tmp_path / 'run'}", *arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert not (tmp_path / "run").exists()


def test_an_output_folder_in_use_is_refused(
    config_file: Path, compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of("run", str(config_file), f"out={compared / 'margin-0'}") == 2
    assert "holds a run already" in capsys.readouterr().err


def test_people_are_waited_for_with_exit_code_3(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    data, rows = load_digits(), ["id,path,label,split"]
    for number in range(80):
        Image.fromarray((data.images[number] * 15.9).astype("uint8")).save(tmp_path / f"{number}.png")
        label = data.target[number] if number < 30 or number >= 60 else ""
        rows.append(f"a{number},{number}.png,{label},{'test' if number >= 60 else 'train'}")
    (tmp_path / "images.csv").write_text("\n".join(rows))
    out = tmp_path / "run"
    own = [
        f"data.name=manifest:{tmp_path / 'images.csv'}",
        "data.image_size=8",
        "budget.start=given",
        "budget.n_query=10",
    ]
    assert exit_of("run", str(config_file), f"out={out}", "--json", *own) == 3
    told = capsys.readouterr()
    assert f"openal-ray resume {out}" in told.err
    assert json.loads(told.out)[0]["state"] == "waiting for labels"
    with (out / "selections.csv").open() as file:
        asked = [row["id"] for row in csv.DictReader(file) if row["round"] == "1"]
    assert len(asked) == 10 and all(30 <= int(name[1:]) < 60 for name in asked)
    assert json.loads(invoke("status", str(out), "--json").output)[0]["waiting_for_labels"] == 10


def test_doctor_finds_a_bad_image(tmp_path: Path) -> None:
    rows = ["id,path,label,split"]
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(b"not a picture")
        rows.append(f"a{number},{number}.png,{'ab'[number % 2]},{'test' if number > 1 else 'train'}")
    (tmp_path / "4.png").write_bytes(b"")
    rows.append("a4,4.png,c,train")
    (tmp_path / "images.csv").write_text("\n".join(rows))
    result = CliRunner().invoke(cli.cli, ["doctor", f"manifest:{tmp_path / 'images.csv'}", "--no-ray", "--json"])
    findings = {finding["what"]: finding for finding in json.loads(result.output)}
    assert result.exit_code == 2
    assert not findings["train images"]["good"] and "0.png" in findings["train images"]["found"]
    assert findings["labels"]["found"].startswith("train + test: a 1 + 1, b 1 + 1, c 1 + 0; 1 without a test image")
    assert findings["torch"]["good"]

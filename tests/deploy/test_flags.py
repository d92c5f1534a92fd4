"""Every `shelfmark` command line in deploy/, docs/operations.md and docs/serving.md is one that `shelfmark` takes."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions

from pipelines.beam_flags import parse_beam_flags
from pipelines.cli.commands import BY_NAME

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
OPERATIONS = ROOT / "docs" / "operations.md"
SERVING = ROOT / "docs" / "serving.md"
TEMPLATE_RUNS = "embed"
TAKES_BEAM_FLAGS = {"embed", "reindex"}

COMMAND = re.compile(
    r"(?:^|[\s`/])shelfmark(?::[\w.-]+)? ((?:embed|index|prune|reindex|rollback|runs|serve|versions)\b[^`\n]*)"
)
VARIABLES = {"${SHELFMARK_CATALOG}": "/catalog.csv", "${SHELFMARK_STORE}": "/store"}


def commands_of(text: str) -> Iterator[list[str]]:
    """The argument lists of the `shelfmark` commands in a document: those in code spans and those that have flags."""
    for found in COMMAND.finditer(text):
        line = found[1]
        if " --" in line:
            for name, value in VARIABLES.items():
                line = line.replace(name, value)
            yield shlex.split(line.replace("$SHELFMARK_FLAGS", ""), comments=True)


def documents() -> Iterator[tuple[str, list[str]]]:
    for path in (OPERATIONS, SERVING, *sorted(DEPLOY.glob("systemd/*.service"))):
        for command in commands_of(path.read_text(encoding="utf-8")):
            yield f"{path.name}: {' '.join(command)[:60]}", command
    job = yaml.safe_load((DEPLOY / "kubernetes/base/cronjob.yaml").read_text(encoding="utf-8"))
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    yield "cronjob.yaml", container["args"]
    deployment = yaml.safe_load((DEPLOY / "kubernetes/serve/base/deployment.yaml").read_text(encoding="utf-8"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    yield "deployment.yaml", container["args"]
    dag = (DEPLOY / "airflow/shelfmark_reindex.py").read_text(encoding="utf-8")
    arguments = re.search(r"arguments=\[(.*?)\n {8}\]", dag, re.DOTALL)
    assert arguments is not None
    yield "shelfmark_reindex.py", re.findall(r'^ *"(.*)",$', arguments[1], re.MULTILINE)
    for command in (["reindex", "--catalog", "c", "--store", "s"], ["serve", "--store", "s"]):
        example = (DEPLOY / f"systemd/{command[0]}.env.example").read_text(encoding="utf-8")
        further = re.findall(r"^#?SHELFMARK_FLAGS=(.*)$", example, re.MULTILINE)
        assert further
        for flags in further:
            yield f"{command[0]}.env.example: {flags[:40]}", [*command, *shlex.split(flags)]


def flags_of(command: str) -> dict[str, argparse.Action]:
    """The flags of a command by their names, without dashes."""
    actions = BY_NAME[command].parser()._actions
    return {option.lstrip("-"): action for action in actions for option in action.option_strings}


def test_commands_are_found_in_prose_code_and_units() -> None:
    text = (
        "Run `shelfmark runs --store S`, or\n"
        "    /opt/bin/shelfmark reindex --catalog ${SHELFMARK_CATALOG} # now\n"
        "shelfmark embeds --much"
    )
    assert list(commands_of(text)) == [["runs", "--store", "S"], ["reindex", "--catalog", "/catalog.csv"]]
    assert {"reindex", "runs", "serve"} <= {command[0] for _, command in documents()}
    assert len(list(documents())) >= 14


@pytest.mark.parametrize(
    ("place", "command"), list(documents()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_command_is_one_that_shelfmark_takes(place: str, command: list[str]) -> None:
    _, rest = BY_NAME[command[0]].parser().parse_known_args(command[1:])
    if command[0] in TAKES_BEAM_FLAGS:
        parse_beam_flags(rest)
    else:
        assert not rest


def parameters() -> list[dict[str, object]]:
    document = json.loads((DEPLOY / "dataflow/metadata.json").read_text(encoding="utf-8"))
    found: list[dict[str, object]] = document["parameters"]
    return found


def test_every_parameter_of_the_template_is_a_flag() -> None:
    beam = set(PipelineOptions([]).view_as(WorkerOptions).get_all_options())
    assert {str(parameter["name"]) for parameter in parameters()} <= {*flags_of(TEMPLATE_RUNS), *beam}


def test_template_offers_no_switch() -> None:
    """A template passes every parameter as --name=value, which a switch does not take."""
    flags = flags_of(TEMPLATE_RUNS)
    ours = [flags[str(parameter["name"])] for parameter in parameters() if parameter["name"] in flags]
    assert ours
    assert not [action for action in ours if action.nargs == 0]


def test_template_requires_what_embed_requires() -> None:
    required = {parameter["name"] for parameter in parameters() if not parameter["isOptional"]}
    by_embed = {name for name, action in flags_of(TEMPLATE_RUNS).items() if action.required}
    assert required == {*by_embed, "sdk_container_image"}


def test_template_names_the_choices_that_embed_has() -> None:
    flags = flags_of(TEMPLATE_RUNS)
    checked = 0
    for parameter in parameters():
        name = str(parameter["name"])
        choices = flags[name].choices if name in flags else None
        if choices:
            assert parameter["regexes"] == [f"^({'|'.join(choices)})$"]
            checked += 1
    assert checked == 3


@pytest.mark.parametrize(
    ("name", "fitting", "unfitting"),
    [
        ("store", ["gs://bucket", "s3://bucket/a/b"], ["/srv/store", "gs://", "http://host/store"]),
        ("catalog", ["gs://b/c.csv", "https://host/c.parquet"], ["catalog.csv", "gs://"]),
        ("max_reject_ratio", ["0", "0.05", "1", ".5"], ["2", "5%", ""]),
        ("batch_size", ["1", "256"], ["0", "-1", "many"]),
        ("deadline_s", ["30", "2.5"], ["soon", "-3"]),
        ("min_ram", ["16GB", "6GiB"], ["16", "lots"]),
    ],
)
def test_template_checks_a_parameter(name: str, fitting: list[str], unfitting: list[str]) -> None:
    (regexes,) = [parameter["regexes"] for parameter in parameters() if parameter["name"] == name]
    assert isinstance(regexes, list)
    assert all(re.fullmatch(regexes[0], value) for value in fitting)
    assert not any(re.fullmatch(regexes[0], value) for value in unfitting)


def test_launch_request_in_the_documentation_fits_the_template() -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    request = re.search(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert request is not None
    launch = json.loads(request[1])["launchParameter"]["parameters"]
    command = re.search(r"--parameters (\S+)", text)
    assert command is not None
    assert launch == dict(pair.split("=", 1) for pair in command[1].split(","))
    known = {str(parameter["name"]): parameter for parameter in parameters()}
    assert set(launch) <= set(known)
    assert {name for name, parameter in known.items() if not parameter["isOptional"]} <= set(launch)
    for name, value in launch.items():
        assert all(re.fullmatch(regex, value) for regex in known[name]["regexes"])  # type: ignore[attr-defined]


def test_no_recipe_trusts_its_table() -> None:
    recipes = {
        place: command for place, command in documents() if not place.startswith(("operations.md", "serving.md"))
    }
    own = {place: command for place, command in recipes.items() if ".env.example" not in place}
    assert len(own) >= 4
    for place, command in own.items():
        assert BY_NAME[command[0]].parser().parse_known_args(command[1:])[0].trust == "none", place

"""What belongs to the repository and not to the package: its automation and its forms."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def load(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_has_what_its_format_requires_and_the_version_of_the_project():
    citation = load("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert all("name" in author for author in citation["authors"])
    assert citation["title"] == PROJECT["name"]
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_for_issues_has_what_its_format_requires_and_asks_for_the_doctor(path):
    form = load(path)
    assert {"name", "description", "body"} <= form.keys()
    fields = {field["id"]: field for field in form["body"] if field["type"] != "markdown"}
    assert len(fields) == len(form["body"])
    assert all(field["attributes"]["label"] for field in fields.values())
    assert "`seg doctor`" in fields["doctor"]["attributes"]["label"]
    assert fields["doctor"]["validations"]["required"] is True


def test_there_is_a_form_for_bugs_and_one_for_questions():
    assert [path.stem for path in FORMS] == ["bug", "question"]


def test_the_workflow_runs_the_whole_on_linux_and_the_quick_tier_elsewhere():
    jobs = load(".github/workflows/ci.yml")["jobs"]
    assert jobs["whole"]["runs-on"].startswith("ubuntu")
    assert [step["run"] for step in jobs["whole"]["steps"] if "run" in step] == [".ci/run"]
    systems = jobs["quick"]["strategy"]["matrix"]["os"]
    assert [name.partition("-")[0] for name in systems] == ["macos", "windows"]
    commands = [step["run"] for step in jobs["quick"]["steps"] if "run" in step]
    assert commands[0] == "scripts/test.sh --quick"
    assert commands[1].splitlines()[1] == 'python -m pytest -m "not slow"'
    steps = [step for job in jobs.values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)


def test_the_workflow_builds_the_site_with_warnings_as_errors_and_with_links_to_torch():
    job = load(".github/workflows/ci.yml")["jobs"]["docs"]
    install, build = [step["run"] for step in job["steps"] if "run" in step]
    assert install.endswith('".[docs]"')
    assert build == "python -m sphinx -W -b html docs build/docs"
    assert "SEG_DOCS_OFFLINE" not in str(job)  # which would leave out the links to torch
    assert "docs" in PROJECT["optional-dependencies"]


def test_the_hooks_before_a_commit_run_tools_whose_versions_are_fixed():
    (local,) = load(".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    tools = [re.match(r"\.venv/bin/python -m (\w+)", hook["entry"])[1] for hook in local["hooks"]]
    assert tools == ["ruff", "ruff", "mypy", "pytest"]
    fixed = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.M)
    assert set(tools) <= set(fixed)
    for hook in local["hooks"]:
        re.compile(hook.get("files", ""))


def test_the_hook_for_the_configurations_runs_a_test_that_exists():
    hook = load(".pre-commit-config.yaml")["repos"][0]["hooks"][-1]
    path, name = re.search(r"(tests/\S+\.py) -k (\w+)", hook["entry"]).groups()
    assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8")

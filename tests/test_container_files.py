"""What the files for containers say, and what their commands do before any container runs."""

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import plain_environment, run
from tests.template import render

COMPOSE_FILES = ("docker-compose.yml", "docker-compose.test.yml")
PINNED_TAGS = ("-alpine", ":v1.8.0")


def services(project: Path, name: str) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load((project / name).read_text())["services"]
    assert services
    return services


@pytest.fixture
def make(template: Path, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run a make target of a rendered service, with a Docker that answers as told."""
    project = render(template, tmp_path / "my-service")
    programs = tmp_path / "bin"
    programs.mkdir()

    def run_make(target: str, docker: str) -> tuple[int, str]:
        (programs / "docker").write_text(f"#!/bin/sh\n{docker}\n")
        (programs / "docker").chmod(0o755)
        path = f"{programs}:{plain_environment()['PATH']}"
        done = run(["make", target], project, plain_environment(PATH=path))
        return done.returncode, done.stdout + done.stderr

    return run_make


@pytest.mark.parametrize("target", ["up", "down", "test-integration"])
def test_without_docker_a_sentence_says_so(target: str, make: Callable[..., tuple[int, str]]) -> None:
    code, output = make(target, "exit 127")
    assert code == 2
    assert output.splitlines()[0].startswith("This needs Docker with Compose, which is not installed here.")

    code, output = make(target, '[ "$1" = compose ] && [ "$2" = version ]')
    assert code == 2
    assert output.splitlines()[0].startswith("Docker does not answer: start it")


def test_the_password_of_the_stack_is_made_once(make: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    settings = tmp_path / "my-service" / ".env"
    assert make("up", "exit 0")[0] == 0
    made = settings.read_text()
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    assert len(made.split("\nSTACK_PASSWORD=")[1].strip()) >= 32

    assert make("up", "exit 0")[0] == 0
    assert settings.read_text() == made


def test_the_password_of_the_stack_is_added_to_the_settings_that_are_there(
    make: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    settings = tmp_path / "my-service" / ".env"
    settings.write_text("LOG_LEVEL=DEBUG")  # No newline at the end.
    assert make("up", "exit 0")[0] == 0

    assert settings.read_text().startswith("LOG_LEVEL=DEBUG\n")
    assert "\nSTACK_PASSWORD=" in settings.read_text()


def test_the_stack_has_no_password_of_its_own(a_render: Path) -> None:
    text = (a_render / "docker-compose.yml").read_text()

    assert "${STACK_PASSWORD:?" in text
    assert "PASSWORD: ${STACK_PASSWORD}" in text


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_every_port_is_published_to_this_machine_only(name: str, a_render: Path) -> None:
    ports = [port for service in services(a_render, name).values() for port in service.get("ports", [])]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_every_container_is_confined(name: str, a_render: Path) -> None:
    for service, details in services(a_render, name).items():
        assert details["cap_drop"] == ["ALL"], service
        assert details["security_opt"] == ["no-new-privileges:true"], service
        assert details.get("read_only") or service == "api-test", service


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_every_foreign_image_has_a_version(name: str, a_render: Path) -> None:
    own = yaml.safe_load((a_render / name).read_text())["name"].removesuffix("-test")
    images = [details["image"] for details in services(a_render, name).values()]
    foreign = [image for image in images if image not in {f"{own}:dev", f"{own}:test"}]
    assert foreign
    assert [image for image in foreign if not image.endswith(PINNED_TAGS)] == []


def test_the_two_stacks_have_different_names(a_render: Path) -> None:
    names = [yaml.safe_load((a_render / name).read_text())["name"] for name in COMPOSE_FILES]
    slug = yaml.safe_load((a_render / ".copier-answers.yml").read_text())["project_slug"]

    assert names == [slug, f"{slug}-test"]
    assert f"--project-name {names[1]} " in (a_render / "make" / "containers.mk").read_text()


def test_every_service_waits_until_the_others_can_be_used(a_render: Path) -> None:
    waiting = services(a_render, "docker-compose.test.yml")["api-test"]["depends_on"]

    assert waiting["postgres-test"] == {"condition": "service_healthy"}
    assert services(a_render, "docker-compose.test.yml")["postgres-test"]["ports"] == ["127.0.0.1:5433:5432"]


def test_with_object_storage_there_is_a_server_and_a_bucket(template: Path, tmp_path: Path) -> None:
    tests = services(render(template, tmp_path / "my-service", object_storage=True), "docker-compose.test.yml")

    assert [port.rpartition(":")[0] for port in tests["s3-test"]["ports"]] == ["127.0.0.1:9002", "127.0.0.1:9003"]
    assert tests["api-test"]["depends_on"]["s3-init-test"] == {"condition": "service_completed_successfully"}
    assert tests["s3-init-test"]["entrypoint"][-1] == f"/data/{tests['api-test']['environment']['S3_BUCKET_NAME']}"
    assert (
        tests["s3-test"]["environment"]["ROOT_SECRET_ACCESS_KEY"]
        == (tests["api-test"]["environment"]["S3_SECRET_ACCESS_KEY"])
    )


def test_the_variables_of_the_tests_fit_their_servers(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "my-service", object_storage=True)
    lines = (project / ".env.test.example").read_text().splitlines()
    outside = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    inside = services(project, "docker-compose.test.yml")["api-test"]["environment"]

    assert outside == inside | {
        "TEST_DATABASE_URL": inside["TEST_DATABASE_URL"].replace("postgres-test:5432", "127.0.0.1:5433"),
        "TEST_S3_ENDPOINT_URL": inside["TEST_S3_ENDPOINT_URL"].replace("s3-test:7070", "127.0.0.1:9002"),
    }


def test_the_service_has_longer_to_end_than_it_takes(a_render: Path) -> None:
    grace = services(a_render, "docker-compose.yml")["api"]["stop_grace_period"]
    settings = (a_render / "docs" / "settings.md").read_text()

    assert int(grace.removesuffix("s")) > int(settings.split("SHUTDOWN_TIMEOUT=")[1].split()[0])


def test_only_what_is_named_gets_into_an_image(a_render: Path) -> None:
    lines = (a_render / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    assert rules[0] == "*"
    assert rules.index("**/.env.*") < rules.index("!.env.example")
    assert [rule for rule in rules if "docs" in rule] == ["!docs/settings.md"]


def test_the_dockerfile_asks_for_nothing_but_its_base(a_render: Path) -> None:
    text = (a_render / "Dockerfile").read_text()

    assert "syntax=" not in text
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE)[0].startswith("python:3.")
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)[1:]) == {"base", "build"}

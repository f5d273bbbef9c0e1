"""Working on a rendered service, with the database that comes along."""

import subprocess

from tests.generated.service import Service


def start(service: Service, command: str) -> "subprocess.Popen[str]":
    """Start a command of the developer's, with the database at hand."""
    return subprocess.Popen(
        [service.toolbox.python, "-m", "dev", "run", "sh", "-c", command],
        cwd=service.project,
        env=service.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_second_command_joins_the_server_of_the_first_and_the_last_one_stops_it(service: Service) -> None:
    first = start(service, "echo $DATABASE_URL; read -r line")
    assert first.stdout
    where, url = first.stdout.readline(), first.stdout.readline()

    second = start(service, "echo $DATABASE_URL; read -r line")
    assert second.stdout
    assert (second.stdout.readline(), second.stdout.readline()) == (where, url)

    first.communicate("\n", timeout=30)
    assert (service.project / ".postgres/data/postmaster.pid").exists()
    second.communicate("\n", timeout=30)
    assert not (service.project / ".postgres/data/postmaster.pid").exists()
    assert (first.returncode, second.returncode) == (0, 0)

import os
import sys

import pytest

from app.benchmark.curve import Curve
from app.benchmark.systems import Image, Measurement, parse_command
from app.errors import UsageError

needs_shell = pytest.mark.skipif(os.name != "posix", reason="the stand-ins are shell scripts")

RECORD = (
    '{"startup_seconds": {"import": 1.5, "compile": null}, '
    '"cases": [{"peak_mib": 3, "seconds": {"read": 0.25, "write": 0.5}}]}'
)


def fake_docker(folder, text):
    path = folder / "docker"
    path.write_text(text)
    path.chmod(0o755)
    return Image(docker=str(path), image="any", memory="8g")


@needs_shell
def test_container_sees_one_folder_read_only_and_no_network(tmp_path):
    image = fake_docker(tmp_path, f'#!/bin/sh\necho "$@" >{tmp_path}/told\n')
    image.run(tmp_path / "in", tmp_path)
    told = (tmp_path / "told").read_text()
    assert f"--volume {tmp_path}/in:/inputs:ro" in told
    assert "--network none --read-only" in told
    assert "--memory 8g --memory-swap 8g" in told


@needs_shell
def test_a_process_that_shares_what_others_loaded_counts_it_as_its_own(tmp_path):
    (tmp_path / "run.json").write_text(RECORD)
    measured = fake_docker(tmp_path, "#!/bin/sh\necho peak_bytes 2097152\n").run(tmp_path, tmp_path)
    assert measured.peak_mib == 3.0


def test_no_docker_client_means_no_image(tmp_path):
    assert not Image(docker=str(tmp_path / "none"), image="any", memory="8g").is_ready()


def test_steps_come_from_the_runs_own_record_and_the_rest_is_told(tmp_path):
    (tmp_path / "run.json").write_text(RECORD)
    command = parse_command(
        f"{sys.executable} -c 'import time; time.sleep(2.5)' {{input}}{{output}}"
    )
    steps = command.run(tmp_path, tmp_path).steps_s
    assert {name: steps[name] for name in ("import", "read", "write")} == {
        "import": 1.5,
        "read": 0.25,
        "write": 0.5,
    }
    assert set(steps) == {"import", "read", "write", "other"}
    assert steps["other"] >= 0.2


@pytest.mark.parametrize("text", ["[]", "{}", '{"cases": []}', '{"cases": ["a"]}', "no JSON"])
def test_a_record_of_another_tool_is_left_alone(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    measured = parse_command(f"{sys.executable} -c pass {{input}} {{output}}").run(
        tmp_path, tmp_path
    )
    assert (measured.record, measured.steps_s) == ({}, {})


def test_folders_take_the_place_of_their_names_inside_words_too(tmp_path):
    write = "import sys; open(sys.argv[1][4:] + '/told', 'w').write(sys.argv[2])"
    command = parse_command(f'{sys.executable} -c "{write}" --o={{output}} {{input}}')
    scans = tmp_path / "with blank"
    assert command.run(scans, tmp_path).exit_code == 0
    assert (tmp_path / "told").read_text() == str(scans)


@pytest.mark.parametrize(
    ("text", "said"),
    [("tool {output}", "{input}"), ("tool -i {input}", "label maps"), ("tool '{input}", "quot")],
)
def test_a_command_without_its_folders_is_wrong_use(text, said):
    with pytest.raises(UsageError, match=said):
        parse_command(text)


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="no-such-tool"):
        parse_command("no-such-tool {input} {output}").run(tmp_path, tmp_path)


def test_a_run_without_record_tells_no_steps():
    run = Measurement(exit_code=0, wall_s=1.0, peak_mib=None, curve=Curve(()), record={})
    assert run.steps_s == {}

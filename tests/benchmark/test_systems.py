import hashlib
import json
import os
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from app.benchmark.curve import Curve
from app.benchmark.systems import (
    Command,
    Image,
    Measurement,
    local_installation,
    parse_command,
    reference,
    weights_differ,
)
from app.errors import UsageError, WeightsError

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights"

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
def test_container_gets_the_variables_asked_for(tmp_path):
    image = fake_docker(tmp_path, f'#!/bin/sh\necho "$@" >{tmp_path}/told\n')
    image.run(tmp_path, tmp_path)
    assert "--env" not in (tmp_path / "told").read_text()
    replace(image, environment={"A": "1", "B": "x y"}).run(tmp_path, tmp_path)
    assert "--env A=1 --env B=x y" in (tmp_path / "told").read_text()


@needs_shell
def test_a_process_that_shares_what_others_loaded_counts_it_as_its_own(tmp_path):
    (tmp_path / "run.json").write_text(RECORD)
    measured = fake_docker(tmp_path, "#!/bin/sh\necho peak_bytes 2097152\n").run(tmp_path, tmp_path)
    assert measured.peak_mib == 3.0


@needs_shell
def test_docker_is_not_told_of_a_folder_that_it_would_split(tmp_path):
    image = fake_docker(tmp_path, "#!/bin/sh\n")
    with pytest.raises(UsageError, match=r"5:30.*colon"):
        image.run(tmp_path / "5:30", tmp_path)


@needs_shell
def test_image_is_asked_what_its_networks_come_from_and_info_tells(tmp_path):
    program = f"cd {ROOT} && exec {sys.executable} -m app info --json"
    image = fake_docker(tmp_path, f'#!/bin/sh\necho "$@" >{tmp_path}/asked\n{program}\n')
    told = image.checkpoints()
    for phase in ("locate", "segment"):
        manifest = json.loads((WEIGHTS / phase / "manifest.json").read_text())
        assert told[phase] == manifest["files"]["checkpoint.safetensors"]
    asked = (tmp_path / "asked").read_text()
    assert "--network none --read-only" in asked
    assert asked.endswith("any info --json\n")


@needs_shell
@pytest.mark.parametrize("text", ["exit 1", "echo version 1", "echo '{}'", "echo '[]'"])
def test_an_image_that_does_not_tell_is_no_crash(tmp_path, text):
    assert fake_docker(tmp_path, f"#!/bin/sh\n{text}\n").checkpoints() is None


def test_weights_that_differ_are_named():
    loaded = {"locate": "a" * 64, "segment": "b" * 64}
    assert weights_differ(dict(loaded), loaded, "image x") == ""
    said = weights_differ(loaded | {"segment": "c" * 64}, loaded, "image x")
    assert said.startswith(
        "image x does not run the reference's weights: "
        "of checkpoint segment cccccccccccc, not bbbbbbbbbbbb;"
    )
    assert "image x does not tell" in weights_differ(None, loaded, "image x")


def write_weights(folder):
    """Write manifests and stand-in checkpoints of other content than the manifests tell."""
    for phase in ("locate", "segment"):
        (folder / phase).mkdir(parents=True)
        shutil.copy(WEIGHTS / phase / "manifest.json", folder / phase)
        (folder / phase / "checkpoint.safetensors").write_text(f"other {phase}")
    return folder


def test_installation_goes_by_its_manifests_and_the_reference_by_what_it_loads(tmp_path):
    folder = write_weights(tmp_path / "weights")
    ours = local_installation(memory="8GiB", weights=folder).checkpoints()
    loaded = reference(weights=folder).checkpoints()
    manifest = json.loads((folder / "segment" / "manifest.json").read_text())
    assert ours["segment"] == manifest["files"]["checkpoint.safetensors"]
    assert loaded["locate"] == hashlib.sha256(b"other locate").hexdigest()
    assert weights_differ(ours, loaded, "ours") != ""


def test_weights_that_are_not_there_are_told_before_anything_runs(tmp_path):
    for make in (reference, partial(local_installation, memory="8GiB")):
        with pytest.raises(WeightsError, match="none"):
            make(weights=tmp_path / "none")
    assert parse_command("tool {input} {output}").checkpoints() is None


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


@pytest.mark.parametrize(
    ("more", "rest_s"),
    [
        # 10 s less 1 s of imports, 2 s of reading and 3 s of phase one; what that waited for the
        # networks is among the 3 s.
        ({}, 4.0),
        ({"startup_in_sequence": True}, 2.5),  # and 1.5 s of compiling
    ],
)
def test_compiling_beside_other_steps_is_not_taken_off_twice(make_run, more, rest_s):
    record = {
        "startup_seconds": {"import": 1.0, "compile": 1.5},
        "cases": [{"seconds": {"read": 2.0, "locate": 3.0}}],
    }
    steps = make_run(wall_s=10.0, record=record | more).steps_s
    assert steps == {"import": 1.0, "compile": 1.5, "read": 2.0, "locate": 3.0, "other": rest_s}


@pytest.mark.parametrize("text", ["[]", "{}", '{"cases": []}', '{"cases": ["a"]}', "no JSON"])
def test_a_record_of_another_tool_is_left_alone(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    measured = parse_command(f"{sys.executable} -c pass {{input}} {{output}}").run(
        tmp_path, tmp_path
    )
    assert (measured.record, measured.steps_s) == ({}, {})


@pytest.mark.parametrize(
    ("text", "steps", "peak_mib"),
    [
        ('{"cases": [{"id": 1}]}', {}, None),
        ('{"startup_seconds": null, "cases": [{"seconds": {"all": 0}}]}', {"all": 0.0}, None),
        ('{"startup_seconds": [1], "cases": [{"seconds": "3"}]}', {}, None),
        ('{"cases": [{"seconds": {"read": "1 s", "write": true, "all": NaN}}]}', {}, None),
        ('{"cases": [{"seconds": {"read": 1%s}}]}' % ("0" * 400), {}, None),
        ('{"cases": [{"peak_mib": "12 MB"}, {"peak_mib": 90000}]}', {}, 90000.0),
    ],
)
def test_a_record_that_tells_other_things_gives_what_it_tells(tmp_path, text, steps, peak_mib):
    (tmp_path / "run.json").write_text(text)
    command = parse_command(f"{sys.executable} -c pass {{input}} {{output}}")
    measured = command.run(tmp_path, tmp_path)
    told = measured.steps_s
    assert told.pop("other", 0.0) <= measured.wall_s
    assert told == steps
    assert measured.num_patches is None
    assert peak_mib is None or measured.peak_mib == peak_mib


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
    command = parse_command("no-such-tool {input} {output}")
    for call in (command.check, lambda: command.run(tmp_path, tmp_path)):
        with pytest.raises(UsageError, match="no-such-tool"):
            call()
    parse_command(f"{sys.executable} {{input}} {{output}}").check()


def test_packages_that_are_not_there_are_named():
    command = Command("reference", (sys.executable,), packages=("json", "no_such_package"))
    with pytest.raises(UsageError, match="needs no_such_package, not installed"):
        command.check()


def test_a_run_without_record_tells_no_steps():
    run = Measurement(exit_code=0, wall_s=1.0, peak_mib=None, curve=Curve(()), record={})
    assert run.steps_s == {}

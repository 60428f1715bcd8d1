import pytest

from app.benchmark.curve import Curve, Sample, since_first, write_csv


def curve(*samples):
    return Curve(tuple(Sample(seconds=s, memory_mib=m, cpu_s=c) for s, m, c in samples))


STEPS = curve((0.0, 0.0, 0.0), (1.0, 100.0, 0.5), (3.0, 200.0, 2.5))


def test_areas_are_those_of_trapezoids_over_uneven_steps():
    # (0 + 100) / 2 * 1 + (100 + 200) / 2 * 2
    assert STEPS.memory_area_mib_s == 350.0
    assert STEPS.cpu_area_s == 2.5
    assert STEPS.peak_mib == 200.0


def test_processors_in_use_integrate_to_the_processor_time():
    assert STEPS.cpus == (0.0, 0.5, 1.0)
    seconds = [sample.seconds for sample in STEPS.samples]
    lengths = [0.0, *(b - a for a, b in zip(seconds, seconds[1:], strict=False))]
    used = sum(length * cpus for length, cpus in zip(lengths, STEPS.cpus, strict=True))
    assert used == pytest.approx(STEPS.cpu_area_s)


def test_a_run_that_ended_before_its_first_sample_has_no_area():
    assert Curve(()).memory_area_mib_s == Curve(()).cpu_area_s == Curve(()).peak_mib == 0
    assert Curve(()).cpus == ()


def test_two_samples_at_one_moment_are_no_division_by_zero():
    assert curve((1.0, 5.0, 0.0), (1.0, 5.0, 0.1)).cpus == (0.0, 0.0)


def test_clocks_of_a_container_start_with_its_first_sample():
    moved = since_first(curve((500.0, 10.0, 7.0), (500.5, 20.0, 7.25)).samples)
    assert moved == curve((0.0, 10.0, 0.0), (0.5, 20.0, 0.25))


def test_csv_has_a_row_for_each_sample(tmp_path):
    write_csv(tmp_path / "curve.csv", STEPS)
    assert (tmp_path / "curve.csv").read_text().splitlines() == [
        "seconds,memory_mib,cpu_s,cpus",
        "0.000,0.000,0.000,0.000",
        "1.000,100.000,0.500,0.500",
        "3.000,200.000,2.500,1.000",
    ]

from pathlib import Path

import pytest

from app.errors import UsageError
from app.imaging.image_files import case_name, image_files, images_by_name


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("liver_7_0000.nii.gz", "liver_7"),
        ("liver_7.nii.gz", "liver_7"),
        ("liver.v2.nii", "liver.v2"),
        ("LIVER_0000.MHA", "LIVER"),
        ("a_0000_0000.nrrd", "a_0000"),
        ("_0000.nii", "_0000"),
        ("IM0001.dcm", "IM0001"),
        ("IM0001", "IM0001"),
    ],
)
def test_case_is_named_after_its_scan(file_name, name):
    assert case_name(Path(file_name)) == name


def test_images_of_any_type_are_listed_by_name_without_what_a_mac_leaves(tmp_path):
    for name in ("b_0000.nii.gz", "a.MHA", "._a.MHA", "notes.txt", "c.seg.nrrd"):
        (tmp_path / name).touch()
    (tmp_path / "d.nii").symlink_to(tmp_path / "nowhere")  # told when it is read

    listed = images_by_name(tmp_path, "--labels")

    assert list(listed) == ["a", "b_0000", "c.seg", "d"]
    assert image_files(tmp_path) == list(listed.values())


def test_two_images_of_one_name_and_a_missing_folder_are_refused(tmp_path):
    for name in ("a.nii", "a.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"a\.nii\.gz and .*a\.nii have one name"):
        images_by_name(tmp_path, "--labels")
    with pytest.raises(UsageError, match="--labels .*nowhere: no such folder"):
        images_by_name(tmp_path / "nowhere", "--labels")

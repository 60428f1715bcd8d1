"""A short run of the fuzzer; `make fuzz` runs the long one."""

from fuzz_readers import fuzz


def test_damaged_files_are_read_or_refused_and_nothing_else():
    tally, findings = fuzz(range(400), seed=3)
    assert findings == []
    assert tally.total() == 400
    outcomes = {outcome for _, outcome in tally}
    read_or_refused = {"volume", "UnreadableScanError", "UnsupportedScanError"}
    assert read_or_refused <= outcomes <= read_or_refused | {"MemoryLimitError"}

"""Tables are written whole or not at all, and only with the columns that are written down."""

import shutil

import pytest

from rnn_parity.experiment.errors import InputError
from rnn_parity.tables import MASKS, TIMING, atomic_path, read_json, read_table, write_rows, write_table, write_text

ROW = {"case_id": "a", "implementation": "x", "samples": 3, "exclusive": False, "median_s": 0.5}


def test_a_table_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "folder" / "timing.parquet"
    write_rows(path, TIMING, [ROW])
    table = read_table(path, TIMING)
    (row,) = table.to_pylist()
    assert {name: row[name] for name in ROW} == ROW
    assert row["device_median_s"] is None


def test_an_unknown_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such column: sekonds"):
        write_rows(tmp_path / "t.parquet", TIMING, [{"sekonds": 1.0}])
    assert not list(tmp_path.iterdir())


def test_several_tables_are_read_as_one_and_none_as_an_empty_one(tmp_path):
    for name in ("a", "b"):
        write_rows(tmp_path / f"{name}.parquet", TIMING, [ROW | {"case_id": name}])
    joined = read_table([tmp_path / "a.parquet", tmp_path / "b.parquet"], TIMING)
    assert joined["case_id"].to_pylist() == ["a", "b"]
    write_table(tmp_path / "joined.parquet", joined)
    assert read_table(tmp_path / "joined.parquet", TIMING).num_rows == 2
    assert read_table([], TIMING).schema == TIMING


def test_a_file_that_is_no_such_table_is_named(tmp_path):
    write_rows(tmp_path / "masks.parquet", MASKS, [])
    with pytest.raises(InputError, match=r"masks\.parquet: holds other columns"):
        read_table(tmp_path / "masks.parquet", TIMING)
    (tmp_path / "broken.parquet").write_text("no table")
    with pytest.raises(InputError, match=r"broken\.parquet: cannot be read"):
        read_table(tmp_path / "broken.parquet", TIMING)
    with pytest.raises(
        InputError, match=r"absent\.parquet: cannot be read as a table \(it is not there\); `rnn-parity run` or "
    ):
        read_table(tmp_path / "absent.parquet", TIMING)
    with pytest.raises(InputError, match=r"absent\.json: cannot be read as JSON \(No such file or directory\); `rnn-"):
        read_json(tmp_path / "absent.json")


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o444 == 0o444


def test_a_file_that_is_missing_while_another_is_written_is_no_fault_of_the_place(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file.txt") as temporary:
        shutil.copyfile(tmp_path / "absent", temporary)


def test_a_place_that_takes_no_file_is_named_and_what_was_there_is_kept(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder.json").mkdir()
    for place in ("file/new.json", "folder.json", "o" * 300 + ".json"):
        with pytest.raises(InputError, match="cannot be written") as caught:
            write_text(tmp_path / place, "new")
        assert str(caught.value).startswith(f"{tmp_path / place}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.json"]
    assert (tmp_path / "file").read_text() == "old"

"""Laws of run folders: a run is recognised, kept from others, and its metrics are rewound to where it goes on."""

import errno
import json

import pytest

from hfrnn.errors import RunError
from hfrnn.train import run_folder

RUN = {'experiment': 'toy', 'settings': {'hidden': 3, 'corpus': 'a'}, 'data': {'alphabet': 'xyz', 'train': 10}}


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / 'run')


def changed(part, **changes):
    return RUN | {part: RUN[part] | changes}


def test_it_opens_again_as_the_same_run_alone(folder):
    run = run_folder.open_to_train(folder, RUN)
    assert run_folder.open_to_read(folder).path == run.path
    with pytest.raises(RunError, match='another process is training'):
        run_folder.open_to_train(folder, RUN)
    run_folder.close(run)
    run_folder.close(run_folder.open_to_train(folder, RUN))
    for other, said in (
        (changed('settings', hidden=4), r'other hidden \(3, not 4\)'),
        (changed('data', train=11), 'other train'),
        (changed('settings', new=1), 'other new'),
        (RUN | {'settings': {'hidden': 3}}, 'other corpus'),
        (RUN | {'experiment': 'else'}, 'another experiment, toy'),
    ):
        with pytest.raises(RunError, match=said):
            run_folder.open_to_train(folder, other)


def test_file_names_of_any_bytes(folder):
    odd = changed('settings', corpus='caf\udce9.txt')  # as Python has the arguments that are no UTF-8
    run_folder.close(run_folder.open_to_train(folder, odd))
    assert run_folder.read_identity(folder)['settings'] == odd['settings']
    run_folder.close(run_folder.open_to_train(folder, odd))


def test_what_is_no_run_is_refused(folder, tmp_path):
    with pytest.raises(RunError, match='holds no run'):
        run_folder.open_to_read(folder)
    (tmp_path / 'file').write_text('')
    for place in (tmp_path / 'file', tmp_path):
        with pytest.raises(RunError, match='holds no run'):
            run_folder.open_to_train(str(place), RUN)
    with pytest.raises(RunError, match='holds no run'):
        run_folder.open_to_read(tmp_path / 'file')
    run = run_folder.open_to_train(folder, RUN)
    null = '{"format": 2, "experiment": "toy", "settings": null, "data": {}}'
    for content in ('{"hid', '[1]', '[' * 100_000, '{"format": 2}', null):
        (run.path / 'run.json').write_text(content)
        with pytest.raises(RunError, match='damaged'):
            run_folder.open_to_read(folder)
    (run.path / 'run.json').write_text('{"format": 3}')
    with pytest.raises(RunError, match='format 3; this version reads format 2'):
        run_folder.open_to_read(folder)
    (run.path / 'run.json').unlink()
    (run.path / 'flags.json').write_text('{}')
    for opened in (run_folder.open_to_read, lambda folder: run_folder.open_to_train(folder, RUN)):
        with pytest.raises(RunError, match=r'a run of hfrnn 0\.1'):
            opened(folder)


def test_what_a_kill_leaves_of_a_beginning_is_begun_anew(folder, tmp_path):
    run_folder.close(run_folder.open_to_train(folder, RUN))
    (tmp_path / 'run' / 'run.json').rename(tmp_path / 'run' / 'run.json.17.new')
    run_folder.close(run_folder.open_to_train(folder, RUN))


def test_a_folder_whose_name_is_no_utf_8_is_refused(tmp_path):
    """As orbax cannot write there."""
    with pytest.raises(RunError, match='is no UTF-8'):
        run_folder.open_to_train(tmp_path / 'run\udcff', RUN)
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_clock_is_refused(folder):
    run_folder.close(run_folder.open_to_train(folder, RUN | {'clock': 'wall'}))
    run_folder.check_identity(folder, RUN)
    with pytest.raises(RunError, match=r'another clock \(wall, not processor\)'):
        run_folder.open_to_train(folder, RUN | {'clock': 'processor'})


def test_a_folder_that_cannot_be_locked_is_no_busy_one(folder, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(run_folder.fcntl, 'flock', flock)
    with pytest.raises(RunError, match='cannot be locked against other processes: No locks available'):
        run_folder.open_to_train(folder, RUN)


def test_metrics_are_rewound_to_the_checkpoint(folder):
    run = run_folder.open_to_train(folder, RUN)
    assert run_folder.read_metrics(folder) == []
    for step in (1, 2, 3):
        run_folder.log(run, {'step': step, 'rho': float('-inf')})
    with (run.path / 'metrics.jsonl').open('a') as f:
        f.write('{"step": 4, "bi')
    assert [row['step'] for row in run_folder.read_metrics(folder)] == [1, 2, 3]
    assert run_folder.rewind_metrics(run, 2) == [{'step': 1, 'rho': None}, {'step': 2, 'rho': None}]
    assert [json.loads(line)['step'] for line in (run.path / 'metrics.jsonl').read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize('line', [b'3', b'{"rho": 1}', b'\xff\xfe'])
def test_metrics_end_where_a_line_is_no_row(folder, line):
    run = run_folder.open_to_train(folder, RUN)
    run_folder.log(run, {'step': 1})
    with (run.path / 'metrics.jsonl').open('ab') as f:
        f.write(line + b'\n{"step": 2}\n')
    assert run_folder.read_metrics(folder) == [{'step': 1}] == run_folder.rewind_metrics(run, 9)


def test_the_best_row_is_the_first_with_the_least_finite_number():
    rows = [{'step': i, 'loss': loss} for i, loss in enumerate([3.0, None, 1.0, float('nan'), 1.0, 2.0])]
    assert run_folder.best_row([{'step': 9}, *rows], 'loss') == rows[2]
    assert run_folder.best_row(rows[1:2], 'loss') == {}

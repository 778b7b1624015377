"""The benchmark, at a size at which it says nothing of speed."""

SCRIPT = 'experiments.benchmark'


def test_it_measures_what_it_names(call):
    status, out, err = call('--hidden=8', '--batch=4', '--length=5', '--repeats=1')
    assert status == 0, err
    for word in ('GFLOP/s', 'a gradient', 'a product', 'product : gradient', 'memory', '1 device', '2 devices'):
        assert word in out


def test_bad_input_is_one_line(call):
    for flag, said in (('--batch=3', 'even'), ('--hidden=0', '--hidden'), ('stray', 'flags begin')):
        status, _, err = call(flag)
        assert status == 1
        assert said in err
        assert 'Traceback' not in err

"""Language models from their bundles."""

import dataclasses

import jax
import numpy as np
import pytest

from hfrnn import bundle
from hfrnn.bundle import Bundle
from hfrnn.errors import DataError, RunError
from hfrnn.nets.model import size
from hfrnn.text import generate, models, scoring
from hfrnn.text.alphabet import decode, encode
from hfrnn.text.models import Net
from hfrnn.train.settings import flatten

SMALL = Net(cell='lstm', hidden=2, clip=1.0)


def a_bundle(net=SMALL, alphabet='ab', **model):
    params = models.make(net, len(alphabet)).init(jax.random.key(0))
    return Bundle({'kind': models.KIND, **flatten(net), **model}, {'alphabet': alphabet}, {}, params)


@pytest.mark.parametrize('net', [SMALL, Net(hidden=3, factors=2, gain='tanh'), Net(cell='lstm', hidden=2, layers=3)])
def test_a_net_is_what_was_saved(net, tmp_path):
    one = a_bundle(net)
    bundle.save(tmp_path / 'net.npz', one)
    again = models.open_net(bundle.load(tmp_path / 'net.npz'))
    jax.tree.map(np.testing.assert_array_equal, again.params, one.params)
    assert again.alphabet == 'ab'
    xs = np.array([0, 1])
    expected = models.make(net, 2).predict(one.params, xs)
    np.testing.assert_array_equal(again.model.predict(again.params, xs).z, expected.z)
    other = a_bundle(dataclasses.replace(net, output_clip=2.0))
    assert len({models.digest(net) for net in (one, other, a_bundle(net, alphabet='ba'))}) == 3
    assert models.digest(bundle.load(tmp_path / 'net.npz')) == models.digest(one)


def test_what_is_no_net_of_text_is_named(tmp_path):
    words = a_bundle(alphabet=['<eos>', 'cat'])
    assert models.open_net(words).alphabet == ('<eos>', 'cat')
    with pytest.raises(RunError, match='a net of words'):
        models.open_net(words, words=False)
    for wrong in ({'hidden': 0}, {'hidden': 'x'}, {'layers': 10**9}, {'cell': 'gru'}, {'more': 1}):
        with pytest.raises(RunError, match='does not say which'):
            models.open_net(a_bundle(**wrong))
    one = a_bundle()
    for model, data, error, said in (
        ({'kind': 'handwriting'}, one.data, DataError, 'its kind is handwriting'),
        ({'kind': models.KIND}, one.data, RunError, 'does not say which'),
        (one.model, {}, RunError, 'no alphabet'),
        (one.model, {'alphabet': ''}, RunError, 'no alphabet'),
        (one.model, {'alphabet': 'abc'}, DataError, 'another net'),
    ):
        with pytest.raises(error, match=said):
            models.open_net(one._replace(model=model, data=data))


def test_what_ships_goes_on_with_a_text():
    net = models.open_net(bundle.load('penn_treebank'))
    assert size(net.params) == 4_257_050
    prompt = encode('the ', net.alphabet)
    drawn = generate.continue_text(net.model, net.params, jax.random.key(0), prompt, 20)
    assert len(decode(drawn, net.alphabet)) == 20
    read = scoring.static_reader(net.model)
    english, shuffled = (
        read(net.params, encode(said, net.alphabet), prompt).nll.sum()
        for said in ('company said it will sell the unit', 'ynapmoc dias ti lliw lles eht tinu')
    )
    assert english < 0.5 * shuffled

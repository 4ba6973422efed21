"""Captions of a planted world: words of the theme in two languages, the same for a seed."""

import numpy as np

from microrec.synth import captions


def drawn(seed: int = 1, n: int = 2_000) -> tuple[list[str], np.ndarray]:
    cluster = np.arange(n) % 16
    return captions.draw(cluster, np.random.default_rng(seed)), cluster % 8


def test_captions_are_the_same_for_a_seed() -> None:
    assert drawn()[0] == drawn()[0]
    assert drawn()[0] != drawn(2)[0]


def test_captions_of_both_languages_are_mostly_of_their_theme() -> None:
    texts, theme = drawn()
    vocabularies = [
        {*e.split(), *c.split()} for e, c in zip(captions.ENGLISH, captions.CHINESE, strict=True)
    ]
    own = [
        sum(word in text for word in vocabularies[t]) for text, t in zip(texts, theme, strict=True)
    ]
    other = [
        sum(word in text for word in vocabularies[(t + 1) % 8])
        for text, t in zip(texts, theme, strict=True)
    ]
    assert np.mean(own) > 2.3
    assert np.mean(other) < 0.2
    chinese = np.array([any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in texts])
    assert 0.45 < chinese.mean() < 0.55


def test_no_word_is_of_two_themes() -> None:
    for language in (captions.ENGLISH, captions.CHINESE):
        words = [word for theme in language for word in theme.split()]
        assert len(words) == len(set(words))

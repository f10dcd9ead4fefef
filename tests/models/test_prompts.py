"""Sentences: the package's own, files of the user's, words for classes; each fault is told by its line."""

import logging
from pathlib import Path

import pytest

from openal_ray.errors import ConfigError
from openal_ray.models import prompts


@pytest.mark.parametrize("kind", ["templates", "negated_templates"])
def test_our_own_sentences_differ_and_have_one_place_each(kind: str) -> None:
    found = prompts.templates(None, kind)
    assert len(set(found)) == len(found) >= 8
    assert all(form.count("{}") == 1 for form in found)


def test_a_file_has_one_sentence_a_line(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("# mine\n\n  a {}.\nno {} here")
    assert prompts.templates(tmp_path / "mine.txt") == ("a {}.", "no {} here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a {}.\na dog.", r"mine.txt, line 2: a sentence has \{\} once, where the class comes; got 'a dog.'"),
        ("a {} on a {}.", "line 1: a sentence has"),
        ("# nothing\n", "holds no sentence, such as"),
    ],
)
def test_a_sentence_without_one_place_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(ConfigError, match=f"^clip.templates: .*{message}"):
        prompts.templates(tmp_path / "mine.txt")


def test_a_missing_file_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="^clip.negated_templates: .* cannot be read as text"):
        prompts.templates(tmp_path / "none.txt", "negated_templates")


def test_classes_are_called_by_their_names_with_spaces_or_as_the_file_says(tmp_path: Path) -> None:
    classes = ["aquarium_fish", "0", "no"]
    assert prompts.words(classes, None) == ("aquarium fish", "0", "no")
    (tmp_path / "names.yaml").write_text("0: digit zero\nno: the word no\n")
    assert prompts.words(classes, tmp_path / "names.yaml") == ("aquarium fish", "digit zero", "the word no")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fsh: a fish", "unknown class 'fsh'. Did you mean 'fish'?"),
        ("- a fish", "must hold lines such as"),
        ("fish:", "must hold lines such as"),
        ("fish: [a, b]", "must hold lines such as"),
        ("fish: [", "not a YAML file"),
    ],
)
def test_a_wrong_file_of_names_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"(?s)^clip.class_names: .*{message}"):
        prompts.words(["fish", "dog"], tmp_path / "names.yaml")


def test_a_file_may_name_classes_that_are_not_known_here_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "names.yaml").write_text("dog: a hound\nfihs: a fish\n")
    with caplog.at_level(logging.INFO, logger="openal_ray"):
        assert prompts.words(["fish", "dog"], tmp_path / "names.yaml") == ("fish", "a hound")
    assert "1 names are of no class here, such as fihs" in caplog.text


def test_sentences_go_class_by_class_and_braces_in_names_are_letters() -> None:
    assert prompts.sentences(["a {0}", "b"], ["x {}", "y {}."]) == ["x a {0}", "y a {0}.", "x b", "y b."]

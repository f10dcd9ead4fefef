"""Tests of errors.py: one family, messages that guide, errors that travel between processes."""

import pickle

import pytest

from openal_ray import errors
from openal_ray.errors import BadImages, UserError, unknown_name


def test_every_error_is_a_user_error_and_says_for_whom() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) == 7
    assert all(issubclass(kind, UserError) and kind.__name__ in (errors.__doc__ or "") for kind in kinds)


@pytest.mark.parametrize(
    ("name", "guess"),
    [("margn", "margin"), ("ENTROPY", "entropy"), ("kcenter", "k_center"), ("Leaky", None), ("", None), (3, None)],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: object, guess: str | None) -> None:
    names = ["margin", "k_center", "entropy"]
    expected = f" Did you mean {guess!r}?" if guess else ""
    assert unknown_name("strategy", name, iter(names)) == (
        f"unknown strategy {name!r}.{expected} Valid: entropy, k_center, margin."
    )


def test_the_guess_is_spelt_as_it_must_be_written() -> None:
    assert "Did you mean 'AL.n_start'?" in unknown_name("key", "al.nstart", ["AL.n_start", "AL.n_query"])


def test_without_valid_names_it_says_so() -> None:
    assert unknown_name("key", "x", []) == "unknown key 'x'. Valid: none."


def test_a_long_list_is_counted_and_still_guessed_from() -> None:
    names = [f"network_{number:03d}" for number in range(50)]
    message = unknown_name("model", "netwrok_049", names)
    assert "Did you mean 'network_049'?" in message
    assert message.endswith(f"Valid: {', '.join(names[:40])} and 10 more.")


def test_bad_images_name_the_first_five_and_the_way_out() -> None:
    error = BadImages([4, 9], ["a.png: cut off", "b.png: empty"])
    assert str(error) == (
        "2 image(s) cannot be used:\n  a.png: cut off\n  b.png: empty\n"
        "Repair or remove them, or set data.bad_images=skip to leave them out of the experiment."
    )
    many = str(BadImages(range(7), [f"{number}.png: empty" for number in range(7)]))
    assert "4.png" in many
    assert "5.png" not in many
    assert "… and 2 more" in many


def test_bad_images_travel() -> None:
    error = BadImages([4, 9], ["a.png: cut off", "b.png: empty"])
    again = pickle.loads(pickle.dumps(error))
    assert (again.indices, again.reasons, str(again)) == ([4, 9], error.reasons, str(error))
